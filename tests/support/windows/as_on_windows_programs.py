"""Child processes: ended without a word, in groups of their own by a flag, and asked to end by Ctrl-Break."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from as_on_windows_names import BREAK, CTRL_BREAK_EVENT

NEW_GROUP = 0x00000200


class _Popen(subprocess.Popen):  # type: ignore[type-arg]
    def __init__(self, *args: Any, creationflags: int = 0, **named: Any) -> None:
        if named.pop("preexec_fn", None) is not None:
            raise ValueError("preexec_fn is not supported on Windows platforms")
        named.pop("start_new_session", None)  # of no effect there
        self.grouped = bool(creationflags & NEW_GROUP)
        super().__init__(*args, process_group=0 if self.grouped else None, **named)

    def send_signal(self, number: int) -> None:
        if self.poll() is not None:
            return
        if number == CTRL_BREAK_EVENT:
            if not self.grouped or NO_CONSOLE in os.environ:
                raise OSError(9, "The handle is invalid")  # WinError 6
            os.killpg(self.pid, BREAK)
        else:
            self.kill()

    def terminate(self) -> None:
        self.kill()

    def kill(self) -> None:
        super().send_signal(9)


NO_CONSOLE = "AS_ON_WINDOWS_NO_CONSOLE"
"""Set in the environment of a process that has none: it can send no Ctrl-Break."""


def begin() -> None:
    """From now on, for all modules."""
    subprocess.Popen = _Popen  # type: ignore[misc]
