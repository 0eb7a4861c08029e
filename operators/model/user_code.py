"""Checks of what user code passes and returns to operators, and unexpected errors as text with their file and line."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from inspect import iscoroutine, signature
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from reactivex import Observable

MAX_SHOWN = 80
"""Characters of a value that a message shows."""

_LIBRARY = str(Path(traceback.__file__).parent)


class WrongReturn(TypeError):
    """A user's function returned what its operator cannot use; `location` is the file and line of the function."""

    def __init__(self, message: str, location: str) -> None:
        super().__init__(message)
        self.location = location


def require_observable(made: Any, function: Callable[..., Any], operator: str) -> Observable[Any]:
    """Return `made`, the result of `function`; raise `WrongReturn` if it is not an observable."""
    if isinstance(made, Observable):
        return made
    how = "Return an observable, such as of(value)"
    if iscoroutine(made):
        how = "Await it in an effect: stages.effect(label, args, do), or from_async(do)"
    raise wrong_return(made, function, operator, f"is no observable. {how}")


def wrong_return(made: Any, function: Callable[..., Any], operator: str, problem: str) -> WrongReturn:
    """The error for a function that returned `made` to `operator`; `problem` follows the word "which"."""
    value = short_repr(made)
    if iscoroutine(made):
        made.close()  # or Python warns later that it was never awaited
    name, location = _named(function)
    return WrongReturn(f"{operator}: {name} returned {value}, which {problem}", location)


def wrong_pipeline(build: Callable[..., Any], error: Exception) -> Exception:
    """The error for a `build` that does not take what a pipeline takes, instead of Python's `error`; else that one."""
    try:
        signature(build).bind(*("job", "world", "policy", "cancel"))
    except TypeError:
        name, location = _named(build)
        return WrongReturn(f"{name} is no pipeline. Write @pipeline above its definition", location)
    except ValueError:  # it has no signature
        pass
    return error


def require_observables(operator: str, *given: Any) -> None:
    """Check the arguments of `operator`: `ValueError` without arguments, `TypeError` if one is not an observable."""
    if not given:
        raise ValueError(f"{operator} needs at least one source")
    for number, each in enumerate(given, 1):
        if not isinstance(each, Observable):
            raise TypeError(f"{operator}: argument {number} is {short_repr(each)}, which is no observable")


def short_repr(value: Any) -> str:
    """A value for a message. It is the same in a run and in its replay: no measured times, no memory addresses."""
    if isinstance(value, bool | int | str | None):
        text = repr(value)
        return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    kind = type(value).__name__
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"


def describe_error(error: BaseException) -> str:
    """An unexpected error as text: `KeyError: 'x' (pipeline.py:12)`."""
    location = location_of(error)
    return f"{type(error).__name__}: {error}" + (f" ({location})" if location else "")


def location_of(error: BaseException) -> str:
    """The file and line that an error comes from, such as `pipeline.py:12`; empty if it was never raised.

    This is the last line of the user's code in the traceback, else of this package, else of a library.
    """
    if isinstance(error, WrongReturn):
        return error.location
    lines = [(_weight(frame), frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if not lines:
        return ""
    most = max(weight for weight, _, _ in lines)
    _, frame, line = [each for each in lines if each[0] == most][-1]
    return _location(frame.f_code, line, frame.f_globals.get("__name__"))


def _weight(frame: FrameType) -> int:
    file = frame.f_code.co_filename
    if _is_ours(frame.f_globals.get("__name__")):
        return 1
    return 0 if file.startswith((_LIBRARY, "<")) or "site-packages" in file else 2


def _is_ours(module: object) -> bool:
    return str(module).startswith("wakestream.")


def _location(code: CodeType, line: int, module: object) -> str:
    file = f"{str(module).replace('.', '/')}.py" if _is_ours(module) else Path(code.co_filename).name
    return f"{file}:{line}"


def _named(function: Callable[..., Any]) -> tuple[str, str]:
    """The name of a function for a message, and its file and line."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{type(function).__name__} object", ""
    location = _location(code, code.co_firstlineno, getattr(function, "__module__", None))
    return "a lambda" if code.co_name == "<lambda>" else f"{code.co_name}()", location
