"""What can go wrong, and whose fault it is.

    WakestreamError
    ├── HubError                    the always-on server
    │   ├── HubUnreachable          no connection, nobody listens           code hub_unreachable
    │   └── HubRefused              it answered no (license, bad request)   code from the hub
    ├── GpuError                    the machine behind it
    │   ├── BootFailed              the monitor could not start it          code boot_failed
    │   ├── GpuLost                 it went away in mid-job: start over     code gpu_lost
    │   └── PowerError              the provider refused or could not say   code power_error
    │       └── NoCapacity          the provider has no machine to give     code no_capacity
    ├── WorkerError                 the HTTP server on that machine
    │   ├── WorkerUnreachable       connection refused, reset, cut          code worker_unreachable
    │   ├── WorkerRefused           it answered no (401, 400, 5xx)          code from the HTTP status
    │   ├── TaskFailed              the engine could not do it              code task_failed
    │   ├── TaskLost                it no longer knows the task: submit     code task_lost
    │   └── Corrupt                 what came is not what was announced     code corrupt
    ├── FileError                   a file on this machine
    │   ├── FileUnusable            missing, empty, a folder, unreadable    code file_unusable
    │   ├── FileChanged             written to while we read it             code file_changed
    │   └── NoSpace                 the disk is full                        code no_space
    ├── JournalError                the program's own record of promises    code journal_error
    └── StageTimeout                a named wait ended                      code timeout
        └── Stalled                 no byte came for too long               code stalled

`retryable` says whether running the job again from `submit` can help.
"""

from __future__ import annotations

from typing import ClassVar, Final


class WakestreamError(Exception):
    """Base of all errors that a job or a program reports; `str(error)` is a sentence that says what to do.

    `code` is a stable word for programs, `retryable` whether the same job may be run again as it is.
    """

    code: str = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, why: str, *, code: str | None = None) -> None:
        super().__init__(why)
        if code is not None:
            self.code = code


class HubError(WakestreamError):
    """The hub could not be used."""

    code = "hub_error"


class HubUnreachable(HubError):
    """Nobody answers at the hub's address."""

    code = "hub_unreachable"


class HubRefused(HubError):
    """The hub answered, and said no; `code` is its word for why."""

    code = "refused"


class GpuError(WakestreamError):
    """The GPU machine could not be used."""

    code = "gpu_error"


class BootFailed(GpuError):
    """The monitor tried to start the GPU and could not."""

    code = "boot_failed"


class GpuLost(GpuError):
    """The GPU went away after it was granted; what was uploaded stays uploaded."""

    code = "gpu_lost"
    retryable = True


class PowerError(GpuError):
    """A power provider refused, timed out or could not say."""

    code = "power_error"


class NoCapacity(PowerError):
    """The provider has no machine of this kind to give at present."""

    code = "no_capacity"
    retryable = True


class WorkerError(WakestreamError):
    """The GPU's HTTP server could not do what it was asked."""

    code = "worker_error"


class WorkerUnreachable(WorkerError):
    """No connection to the worker, or it broke."""

    code = "worker_unreachable"
    retryable = True


class WorkerRefused(WorkerError):
    """The worker answered with a failure; `code` is `unauthorized`, `bad_request`, `not_found` or `http_<status>`."""

    code = "refused"


class TaskFailed(WorkerError):
    """The engine gave up on this pair of files."""

    code = "task_failed"


class TaskLost(WorkerError):
    """The worker forgot the task (restart without memory); submitting again is safe."""

    code = "task_lost"
    retryable = True


class Corrupt(WorkerError):
    """Bytes arrived that are not the announced ones: truncated, or all of them with a wrong hash (code `DAMAGED`)."""

    code = "corrupt"
    retryable = True


DAMAGED: Final = "damaged"
"""`Corrupt` that no better line would mend."""


class FileError(WakestreamError):
    """A file on this machine cannot be used."""

    code = "file_error"


class FileUnusable(FileError):
    """Missing, empty, a folder, or not readable."""

    code = "file_unusable"


class FileChanged(FileError):
    """The file was written to between two looks at it."""

    code = "file_changed"


class NoSpace(FileError):
    """The disk that was to take the bytes is full."""

    code = "no_space"


class JournalError(WakestreamError):
    """What a program promised cannot be kept or read: its journal is in use, broken, or of a later version."""

    code = "journal_error"


class StageTimeout(WakestreamError):
    """A named wait ended: `stage` is its name, `seconds` how long it was allowed to last."""

    code = "timeout"

    def __init__(self, stage: str, seconds: float, why: str | None = None) -> None:
        super().__init__(why or f"{stage}: nothing within {seconds:g} s")
        self.stage = stage
        self.seconds = seconds


class Stalled(StageTimeout):
    """No byte came for too long; a new connection may do better."""

    code = "stalled"
    retryable = True


def is_retryable(error: Exception) -> bool:
    """Whether trying the same call or the same job again can help."""
    return isinstance(error, WakestreamError) and error.retryable
