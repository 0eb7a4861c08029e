"""Windows's rules for names and open files, by an audit hook: whatever of Python touches the disk comes past it."""

import contextlib
import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_BAD = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\..*)?", re.IGNORECASE)
_SYSTEM = ("/proc/", "/dev/", "/sys/")

INVALID, IN_USE, DENIED, NO_PRIVILEGE = 123, 32, 5, 1314
"""Windows's own numbers."""


def begin() -> None:
    """From now on, for all modules."""
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # as there: whole paths, no folders' descriptors
    os.rename = _not_over(os.rename)
    sys.addaudithook(_hear)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    rule = _RULES.get(event)
    if rule is not None:
        rule(*args)


def _opened(path: Any, *_: Any) -> None:
    if isinstance(path, int):
        return
    _check_name(path)
    if Path(path).is_dir() and not sys._getframe(2).f_code.co_filename.endswith("tempfile.py"):  # it has its own way
        raise _refused(errno.EACCES, DENIED, "Permission denied", path)


def _renamed(source: Any, target: Any, *_: Any) -> None:
    _check_name(target)
    for path in (source, target):
        _check_free(path)


def _removed(path: Any, *_: Any) -> None:
    _check_free(path)


def _linked(_source: Any, target: Any, *_: Any) -> None:
    raise _refused(errno.EINVAL, NO_PRIVILEGE, "A required privilege is not held by the client", target)


def _named(path: Any, *_: Any) -> None:
    _check_name(path)


_RULES: dict[str, Callable[..., None]] = {
    "open": _opened,
    "os.rename": _renamed,
    "os.remove": _removed,
    "os.rmdir": _removed,
    "os.mkdir": _named,
    "os.symlink": _linked,
}


def _check_name(path: Any) -> None:
    text = os.fsdecode(path)
    if text.startswith(_SYSTEM):
        return
    for part in text.split("/"):
        if part not in ("", ".", "..") and (_BAD.search(part) or _RESERVED.fullmatch(part)):
            raise _refused(errno.EINVAL, INVALID, "Invalid argument", path)


def _check_free(path: Any) -> None:
    real = os.path.realpath(os.fsdecode(path))
    if any(held == real or held.startswith(f"{real}/") for held in _held()):
        why = "The process cannot access the file because it is being used by another process"
        raise _refused(errno.EACCES, IN_USE, why, path)


def _held() -> Iterator[str]:
    """The paths of what any process has open, and of the folders that they are in."""
    for process in os.listdir("/proc"):  # noqa: PTH208 - at each rename: paths as objects take ten times as long
        if process.isdigit():
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{process}/cwd")  # noqa: PTH115
                for each in os.scandir(f"/proc/{process}/fd"):
                    with contextlib.suppress(OSError):
                        yield os.readlink(each.path)  # noqa: PTH115


def _refused(number: int, windows: int, why: str, path: Any) -> OSError:
    error = OSError(number, why, os.fsdecode(path))
    error.winerror = windows  # type: ignore[attr-defined]
    return error


def _not_over(rename: Callable[..., None]) -> Callable[..., None]:
    def renamed(source: Any, target: Any, **more: Any) -> None:
        if os.path.lexists(target):
            raise _refused(errno.EEXIST, 183, "Cannot create a file when that file already exists", target)
        rename(source, target, **more)

    return renamed
