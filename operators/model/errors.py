"""The errors of a job, by the part of the system that failed.

    WakestreamError
    ├── HubError                    the always-on server
    │   ├── HubUnreachable          no connection                           code hub_unreachable
    │   └── HubRefused              it refused (license, bad request)       code from the hub
    ├── GpuError                    the machine behind it
    │   ├── BootFailed              the monitor could not start it          code boot_failed
    │   ├── GpuLost                 it went offline during the job          code gpu_lost
    │   └── PowerError              the provider refused or failed          code power_error
    │       ├── NoCapacity          the provider has no free machine        code no_capacity
    │       ├── QuotaExceeded       the account may not run this machine    code quota_exceeded
    │       ├── Denied              the credentials are refused             code denied
    │       ├── Gone                the machine does not exist any more     code gone
    │       └── Transient           a later call may succeed                code transient
    │           └── TryAgain        it refused, and nothing happened        code try_again
    ├── WorkerError                 the HTTP server on that machine
    │   ├── WorkerUnreachable       no connection, or it broke              code worker_unreachable
    │   ├── WorkerRefused           it refused (401, 400, 5xx)              code from the HTTP status
    │   │   └── WorkerFull          its disk or its queue is full           code no_space
    │   ├── EngineUnreachable       the engine behind it does not answer    code engine_unreachable
    │   ├── TaskFailed              the engine failed                       code task_failed
    │   ├── TaskLost                it does not know the task any more      code task_lost
    │   └── Corrupt                 the received bytes are wrong            code corrupt
    ├── FileError                   a file on this machine
    │   ├── FileUnusable            missing, empty, a folder, unreadable    code file_unusable
    │   ├── FileChanged             changed while it was read               code file_changed
    │   └── NoSpace                 the disk is full                        code no_space
    ├── DepotError                  it is down, full or slow                code depot_error
    │   └── LinkExpired             a link of it is over                    code link_expired
    ├── WrongInput                  a field of the job does not fit         code wrong_input
    │   └── UnknownKind             no GPU has this kind                    code unknown_kind
    ├── JournalError                a program's journal on disk             code journal_error
    │   └── Fenced                  another program may write it now        code fenced
    └── StageTimeout                a wait took too long                    code timeout
        └── Stalled                 no byte came for too long               code stalled

`retryable`: running the job again from `submit` can help.
"""

from __future__ import annotations

from typing import ClassVar, Final


class WakestreamError(Exception):
    """Base of all errors that a job or a program reports.

    Args:
        reason: A sentence for people: what happened and what to do. `str(error)` returns it.
        code: A stable word for programs; default is the class's own.

    Attributes:
        code: The word for programs.
        retryable: Whether running the same job again can help.

    Example:
        >>> class DiskSlow(WakestreamError, code="disk_slow", retryable=True):
        ...     pass
    """

    code: str = "error"
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, *, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init_subclass__()
        cls.code = cls.code if code is None else code
        cls.retryable = cls.retryable if retryable is None else retryable

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__(reason)
        if code is not None:
            self.code = code


class HubError(WakestreamError, code="hub_error"):
    """The hub could not be used."""


class HubUnreachable(HubError, code="hub_unreachable"):
    """The hub does not answer at its address."""


class HubRefused(HubError, code="refused"):
    """The hub refused; `code` is its word for the reason."""


class GpuError(WakestreamError, code="gpu_error"):
    """The GPU machine could not be used."""


class BootFailed(GpuError, code="boot_failed"):
    """The monitor tried to start the GPU and could not."""


class GpuLost(GpuError, code="gpu_lost", retryable=True):
    """The GPU went offline after it was granted. Uploaded files stay at the worker."""


class PowerError(GpuError, code="power_error"):
    """A power provider refused, timed out or gave no clear answer."""


class NoCapacity(PowerError, code="no_capacity", retryable=True):
    """The provider has no free machine of this kind at present."""


class QuotaExceeded(PowerError, code="quota_exceeded"):
    """The account may not run this machine: a quota or the credit is used up. Repeating the start does not help."""


class Denied(PowerError, code="denied"):
    """The provider refuses the credentials, or they do not allow this call."""


class Gone(PowerError, code="gone"):
    """The machine was deleted. It is never started again."""


class Transient(PowerError, code="transient", retryable=True):
    """The provider does not answer, is overloaded, or answered with an unknown code. A later call may succeed.

    The call may have had an effect. Where it certainly had none, raise `TryAgain`.

    Args:
        reason: The sentence for people.
        retry_after: Seconds until the next call, of a call that had no effect; None if it may have had one.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class TryAgain(Transient, code="try_again"):
    """The provider refused the call, which had no effect: too many calls, or the machine is between two states.

    The job goes on waiting, and the call is repeated after the given time.

    Args:
        reason: The sentence for people.
        retry_after: Seconds until the call may be repeated.

    Example:
        >>> TryAgain("acme: HTTP 409: the machine is still stopping").retry_after
        5.0
    """

    def __init__(self, reason: str, retry_after: float = 5.0) -> None:
        super().__init__(reason, retry_after)


class WorkerError(WakestreamError, code="worker_error"):
    """The worker, the HTTP server on the GPU machine, failed."""


class WorkerUnreachable(WorkerError, code="worker_unreachable", retryable=True):
    """There is no connection to the worker, or it broke."""


class WorkerRefused(WorkerError, code="refused"):
    """The worker answered with a failure; `code` is `unauthorized`, `bad_request`, `not_found` or `http_<status>`."""


class WorkerFull(WorkerRefused, code="no_space", retryable=True):
    """The worker's disk is full, or its queue (`queue_full`). Work that ends there, or its operator, makes room."""


class EngineUnreachable(WorkerError, code="engine_unreachable", retryable=True):
    """The engine does not answer, or it was restarted: the work can be done again when it is ready."""


class TaskFailed(WorkerError, code="task_failed"):
    """The engine could not render this pair of files."""


class TaskLost(WorkerError, code="task_lost", retryable=True):
    """The worker does not know the task any more, for example after a restart. Submitting again is safe."""


class Corrupt(WorkerError, code="corrupt", retryable=True):
    """The received file is truncated, or complete with a wrong hash (code `DAMAGED`)."""


DAMAGED: Final = "damaged"
"""The code of `Corrupt` when the transfer was complete: a better connection would not help."""


class DepotError(WakestreamError, code="depot_error", retryable=True):
    """The depot did not do what was asked.

    `code` may be `down`, `full`, `quota`, `denied`, `too_large`, or `lost`: it has no such file or upload.

    Args:
        reason: The sentence for people.
        code: The word for programs.
        retry_after: Seconds after which the depot asks to be called again.
    """

    def __init__(self, reason: str, *, code: str | None = None, retry_after: float = 0.0) -> None:
        super().__init__(reason, code=code)
        self.retry_after = retry_after


class LinkExpired(DepotError, code="link_expired"):
    """A link to the depot is no longer valid, or was never: ask for a new one."""


class FileError(WakestreamError, code="file_error"):
    """A file on this machine cannot be used."""


class FileUnusable(FileError, code="file_unusable"):
    """The file is missing, empty, a folder, or not readable."""


class FileChanged(FileError, code="file_changed"):
    """The file changed between two reads."""


class NoSpace(FileError, code="no_space"):
    """The disk is full."""


class WrongInput(WakestreamError, code="wrong_input"):
    """A part of the job does not fit its kind.

    Args:
        field: The input, parameter or output, such as `params.seed` or `inputs.image`.
        reason: The sentence for people, which names the field and says what to do.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class UnknownKind(WrongInput, code="unknown_kind"):
    """No GPU has the kind of the job."""


class JournalError(WakestreamError, code="journal_error"):
    """A program's journal cannot be read or written: it is in use, broken, or of a later version."""


class Fenced(JournalError, code="fenced"):
    """The session with the journal's database ended, so another program may write the journal now."""


class StageTimeout(WakestreamError, code="timeout"):
    """A wait took too long.

    Args:
        stage: The name of the wait.
        seconds: The limit.
        reason: The sentence for people; default names the stage and the limit.
    """

    def __init__(self, stage: str, seconds: float, reason: str | None = None) -> None:
        super().__init__(reason or f"{stage}: nothing within {seconds:g} s")
        self.stage = stage
        self.seconds = seconds


class Stalled(StageTimeout, code="stalled", retryable=True):
    """No byte came for too long. A new connection may help."""


def is_retryable(error: Exception) -> bool:
    """Whether repeating the same call or the same job can help.

    Example:
        >>> is_retryable(WorkerUnreachable("no connection"))
        True

    Args:
        error: Any exception.

    Returns:
        True for a `WakestreamError` whose class is `retryable`.
    """
    return isinstance(error, WakestreamError) and error.retryable
