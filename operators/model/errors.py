"""The errors of a job, by the part of the system that failed.

    WakestreamError
    ├── HubError                    the always-on server
    │   ├── HubUnreachable          no connection                           code hub_unreachable
    │   └── HubRefused              it refused (license, bad request)       code from the hub
    ├── GpuError                    the machine behind it
    │   ├── BootFailed              the monitor could not start it          code boot_failed
    │   ├── GpuLost                 it went offline during the job          code gpu_lost
    │   └── PowerError              the provider refused or failed          code power_error
    │       └── NoCapacity          the provider has no free machine        code no_capacity
    ├── WorkerError                 the HTTP server on that machine
    │   ├── WorkerUnreachable       no connection, or it broke              code worker_unreachable
    │   ├── WorkerRefused           it refused (401, 400, 5xx)              code from the HTTP status
    │   ├── TaskFailed              the engine failed                       code task_failed
    │   ├── TaskLost                it does not know the task any more      code task_lost
    │   └── Corrupt                 the received bytes are wrong            code corrupt
    ├── FileError                   a file on this machine
    │   ├── FileUnusable            missing, empty, a folder, unreadable    code file_unusable
    │   ├── FileChanged             changed while it was read               code file_changed
    │   └── NoSpace                 the disk is full                        code no_space
    ├── JournalError                a program's journal on disk             code journal_error
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
    """

    code: str = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__(reason)
        if code is not None:
            self.code = code


class HubError(WakestreamError):
    """The hub could not be used."""

    code = "hub_error"


class HubUnreachable(HubError):
    """The hub does not answer at its address."""

    code = "hub_unreachable"


class HubRefused(HubError):
    """The hub refused; `code` is its word for the reason."""

    code = "refused"


class GpuError(WakestreamError):
    """The GPU machine could not be used."""

    code = "gpu_error"


class BootFailed(GpuError):
    """The monitor tried to start the GPU and could not."""

    code = "boot_failed"


class GpuLost(GpuError):
    """The GPU went offline after it was granted. Uploaded files stay at the worker."""

    code = "gpu_lost"
    retryable = True


class PowerError(GpuError):
    """A power provider refused, timed out or gave no clear answer."""

    code = "power_error"


class NoCapacity(PowerError):
    """The provider has no free machine of this kind at present."""

    code = "no_capacity"
    retryable = True


class WorkerError(WakestreamError):
    """The worker, the HTTP server on the GPU machine, failed."""

    code = "worker_error"


class WorkerUnreachable(WorkerError):
    """There is no connection to the worker, or it broke."""

    code = "worker_unreachable"
    retryable = True


class WorkerRefused(WorkerError):
    """The worker answered with a failure; `code` is `unauthorized`, `bad_request`, `not_found` or `http_<status>`."""

    code = "refused"


class TaskFailed(WorkerError):
    """The engine could not render this pair of files."""

    code = "task_failed"


class TaskLost(WorkerError):
    """The worker does not know the task any more, for example after a restart. Submitting again is safe."""

    code = "task_lost"
    retryable = True


class Corrupt(WorkerError):
    """The received file is truncated, or complete with a wrong hash (code `DAMAGED`)."""

    code = "corrupt"
    retryable = True


DAMAGED: Final = "damaged"
"""The code of `Corrupt` when the transfer was complete: a better connection would not help."""


class FileError(WakestreamError):
    """A file on this machine cannot be used."""

    code = "file_error"


class FileUnusable(FileError):
    """The file is missing, empty, a folder, or not readable."""

    code = "file_unusable"


class FileChanged(FileError):
    """The file changed between two reads."""

    code = "file_changed"


class NoSpace(FileError):
    """The disk is full."""

    code = "no_space"


class JournalError(WakestreamError):
    """A program's journal cannot be read or written: it is in use, broken, or of a later version."""

    code = "journal_error"


class StageTimeout(WakestreamError):
    """A wait took too long.

    Args:
        stage: The name of the wait.
        seconds: The limit.
        reason: The sentence for people; default names the stage and the limit.
    """

    code = "timeout"

    def __init__(self, stage: str, seconds: float, reason: str | None = None) -> None:
        super().__init__(reason or f"{stage}: nothing within {seconds:g} s")
        self.stage = stage
        self.seconds = seconds


class Stalled(StageTimeout):
    """No byte came for too long. A new connection may help."""

    code = "stalled"
    retryable = True


def is_retryable(error: Exception) -> bool:
    """Whether repeating the same call or the same job can help.

    Args:
        error: Any exception.

    Returns:
        True for a `WakestreamError` whose class is `retryable`.
    """
    return isinstance(error, WakestreamError) and error.retryable
