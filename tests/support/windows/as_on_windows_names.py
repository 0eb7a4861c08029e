"""What modules of `wakestream` find when they import: Windows's names and values, and none that it lacks."""

import builtins
import errno
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ABSENT = frozenset({"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty", "_posixsubprocess", "posix"})

OS_LACKS = frozenset(
    """
    fork forkpty killpg getpgid getpgrp setpgid setsid getsid geteuid getegid getuid getgid getgroups setuid setgid
    fchmod fchown chown lchown chroot fchdir fdatasync statvfs fstatvfs getloadavg mkfifo mknod nice openpty pipe2
    pread preadv pwrite pwritev posix_fadvise posix_fallocate posix_spawn readv writev sendfile tcgetpgrp ttyname
    sync uname wait wait3 wait4 waitid WNOHANG WIFEXITED WIFSIGNALED WTERMSIG WEXITSTATUS sched_getaffinity
    O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC O_DSYNC O_TMPFILE O_NOCTTY pidfd_open memfd_create
    getxattr setxattr register_at_fork sysconf confstr get_blocking set_blocking ctermid
    """.split()  # noqa: SIM905
)

SIGNALS = ("SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV")

CTRL_C_EVENT, CTRL_BREAK_EVENT = 0, 1
BREAK = signal.SIGUSR1
"""The signal that stands for Ctrl-Break: its default is to end the program, too."""


def begin() -> None:
    """For what is imported from now on."""
    sys.meta_path.insert(0, _Finder())


class _Pretended(ModuleType):
    """A module as another, with some names changed and others gone."""

    def __init__(self, real: ModuleType, lacks: Collection[str], has: Mapping[str, Any]) -> None:
        super().__init__(real.__name__, real.__doc__)
        vars(self).update(has)
        object.__setattr__(self, "_real", real)
        object.__setattr__(self, "_lacks", frozenset(lacks))

    def __getattr__(self, name: str) -> Any:
        if name in self._lacks:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} (as on Windows)")
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)


def _kill(pid: int, number: int) -> None:
    """As `os.kill` there: two events for consoles, and all else ends the program where it stands."""
    events = {CTRL_BREAK_EVENT: BREAK, CTRL_C_EVENT: signal.SIGINT}
    os.kill(pid, events.get(int(number), signal.SIGKILL))


def _handle(number: int, handler: Any) -> Any:
    if number not in (BREAK, *(getattr(signal, name) for name in SIGNALS)):
        raise ValueError("invalid signal value")
    return signal.signal(number, handler)


def _locking(descriptor: int, mode: int, _count: int) -> None:
    how = {0: fcntl.LOCK_UN, 1: fcntl.LOCK_EX, 2: fcntl.LOCK_EX | fcntl.LOCK_NB}[mode]
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


def _which(program: str, *more: Any, **named: Any) -> str | None:
    """Also what is found by PATHEXT."""
    found = (shutil.which(f"{program}{ending}", *more, **named) for ending in ("", ".exe", ".bat", ".cmd"))
    return next(filter(None, found), None)


def _msvcrt() -> ModuleType:
    module = ModuleType("msvcrt")
    vars(module).update(LK_UNLCK=0, LK_LOCK=1, LK_NBLCK=2, locking=_locking)
    return module


_SIGNALS_LACK = frozenset(
    name for name in dir(signal) if name.startswith("SIG") and name[3:4].isalpha() and name not in SIGNALS
) | {"alarm", "setitimer", "getitimer", "pause", "pthread_kill", "pthread_sigmask", "siginterrupt", "sigwait"}

INSTEAD: Mapping[str, ModuleType] = {
    "sys": _Pretended(sys, (), {"platform": "win32"}),
    "os": _Pretended(os, OS_LACKS, {"name": "nt", "linesep": "\r\n", "O_BINARY": 0, "kill": _kill}),
    "signal": _Pretended(
        signal, _SIGNALS_LACK,
        {"SIGBREAK": BREAK, "CTRL_C_EVENT": CTRL_C_EVENT, "CTRL_BREAK_EVENT": CTRL_BREAK_EVENT, "signal": _handle},
    ),
    "shutil": _Pretended(shutil, ("chown",), {"which": _which}),
    "msvcrt": _msvcrt(),
}  # fmt: skip


def _import(name: str, *more: Any, **named: Any) -> Any:
    level = named.get("level", more[3] if len(more) > 3 else 0)
    if level == 0 and name in ABSENT:
        raise ModuleNotFoundError(f"No module named {name!r} (as on Windows)", name=name)
    if level == 0 and name in INSTEAD:
        return INSTEAD[name]
    return builtins.__import__(name, *more, **named)


_BUILTINS = {**vars(builtins), "__import__": _import}


class _Finder(MetaPathFinder):
    """Finds what the others find, and executes our modules with the changed import."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("wakestream."):
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, found), None)
        loader = getattr(spec, "loader", None)
        if loader is not None and hasattr(loader, "get_code"):
            loader.exec_module = lambda module: _execute(loader, module)
        return spec


def _execute(loader: Any, module: ModuleType) -> None:
    vars(module)["__builtins__"] = _BUILTINS
    exec(loader.get_code(module.__name__), vars(module))  # noqa: S102 - as the loader itself does
