"""Linux that keeps some of Windows's rules, for tests: an emulation, written from its documents and never compared.

What it does, to every Python process whose PYTHONPATH begins with this folder (`environment` makes one):

- `names`: modules of `wakestream` (and no others) find a `sys.platform` of `win32`, an `os.name` of `nt`, no `fcntl`,
  `resource`, `pwd` and their like, no `os.killpg`, `os.fork`, `SIGKILL`, `SIGHUP`, but `msvcrt` and `SIGBREAK`. The
  libraries below them keep Linux's, as they choose their own code by these values when they are imported.
- `files`: for everybody. Open files, of any process, cannot be removed, renamed or replaced; folders cannot be opened;
  names with `<>:"|?*`, with a dot or space at their end, and reserved ones are refused; a rename replaces nothing.
- `loops`: asyncio's own proactor transports, over a proactor that waits by `select`; so there is no
  `add_signal_handler` and no `add_reader`, pipes and sockets break as there, and one accept that fails ends a server.
- `programs`: `terminate` is `kill`, a killed program's children live on, Ctrl-Break instead of signals, new groups only
  by `creationflags`; `system/taskkill` stands for the system's own.
- `clocks`: `time.time` and `time.monotonic` move in steps of 15.625 ms, and loops take timers that far ahead of time.
- Text that is opened without an encoding is an error in `wakestream`, and the streams begin as cp1252.

What it does not: backslashes and drives (`os.path` is POSIX's), names that differ in case only, the length of paths,
locks that stop readers, what C code does with files (SQLite), job objects, consoles, services, ACLs, antivirus.
"""

import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent

MARK = "AS_ON_WINDOWS"
"""Set in the environment of what runs under the emulation."""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """`given`, for a process under the emulation; what that starts is under it as well."""
    return {
        **given,
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [given.get("PYTHONPATH")])]),
        "PATH": os.pathsep.join([str(HERE / "system"), given.get("PATH", os.environ["PATH"])]),
        "PYTHONWARNDEFAULTENCODING": "1",
        "PYTHONIOENCODING": "cp1252",
        "PYTHONUTF8": "0",
        "LC_ALL": "C.UTF-8",  # names of files are text there, whatever the language
        MARK: "1",
    }


def begin() -> None:
    """Change this process, for good."""
    import as_on_windows_clocks
    import as_on_windows_files
    import as_on_windows_names

    warnings.filterwarnings("error", category=EncodingWarning, module=r"wakestream\b")
    as_on_windows_clocks.begin()
    as_on_windows_files.begin()
    as_on_windows_names.begin()
    import as_on_windows_loops
    import as_on_windows_programs

    as_on_windows_programs.begin()
    as_on_windows_loops.begin()
    sys.dont_write_bytecode = True  # bytecode is written to a name of its own and renamed
