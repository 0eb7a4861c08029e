"""Errors that no operator raises on purpose, as text: their type, what they say, and the file and line they come from.

And the one that operators raise where a function of the user's returned what they cannot use.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from inspect import iscoroutine
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from reactivex import Observable

SHOWN = 80
"""Characters of a value that a message shows."""

_LIBRARY = str(Path(traceback.__file__).parent)


class WrongReturn(TypeError):
    """A function returned what its operator cannot use; `place` is where the function stands."""

    def __init__(self, message: str, place: str) -> None:
        super().__init__(message)
        self.place = place


def require_observable(made: Any, function: Callable[..., Any], operator: str) -> Observable[Any]:
    """What `function` returned to `operator`; `WrongReturn` where that is no observable."""
    if isinstance(made, Observable):
        return made
    how = "Return an observable, such as of(value)"
    if iscoroutine(made):
        how = "Await it in an effect: stages.effect(label, args, do), or from_async(do)"
    raise wrong_return(made, function, operator, f"is no observable. {how}")


def wrong_return(made: Any, function: Callable[..., Any], operator: str, why: str) -> WrongReturn:
    """The error of a function that returned `made` to `operator`; `why` goes on after "which"."""
    value = short_repr(made)
    if iscoroutine(made):
        made.close()  # else Python warns, later and elsewhere, that nothing awaited it
    name, place = _named(function)
    return WrongReturn(f"{operator}: {name} returned {value}, which {why}", place)


def require_observables(operator: str, *given: Any) -> None:
    """Check the arguments of `operator`: `ValueError` if there is none, `TypeError` if one is not an observable."""
    if not given:
        raise ValueError(f"{operator} needs at least one source")
    for number, each in enumerate(given, 1):
        if not isinstance(each, Observable):
            raise TypeError(f"{operator}: argument {number} is {short_repr(each)}, which is no observable")


def short_repr(value: Any) -> str:
    """A value as a message shows it: alike in a run and in its replay, so nothing with measured times or addresses."""
    if isinstance(value, bool | int | str | None):
        text = repr(value)
        return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    kind = type(value).__name__
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"


def describe_error(error: BaseException) -> str:
    """An error that nobody foresaw, as `KeyError: 'x' (pipeline.py:12)`."""
    place = location_of(error)
    return f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")


def location_of(error: BaseException) -> str:
    """Where an error comes from, as `pipeline.py:12`; empty where it was never raised.

    That is the last line of the user's own code that leads to it, else of ours, else of any library.
    """
    if isinstance(error, WrongReturn):
        return error.place
    lines = [(_weight(frame), frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if not lines:
        return ""
    most = max(weight for weight, _, _ in lines)
    _, frame, line = [each for each in lines if each[0] == most][-1]
    return _place(frame.f_code, line, frame.f_globals.get("__name__"))


def _weight(frame: FrameType) -> int:
    file = frame.f_code.co_filename
    if _is_ours(frame.f_globals.get("__name__")):
        return 1
    return 0 if file.startswith((_LIBRARY, "<")) or "site-packages" in file else 2


def _is_ours(module: object) -> bool:
    return str(module).startswith("wakestream.")


def _place(code: CodeType, line: int, module: object) -> str:
    file = f"{str(module).replace('.', '/')}.py" if _is_ours(module) else Path(code.co_filename).name
    return f"{file}:{line}"


def _named(function: Callable[..., Any]) -> tuple[str, str]:
    """A function as a message names it, and where it stands."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{type(function).__name__} object", ""
    place = _place(code, code.co_firstlineno, getattr(function, "__module__", None))
    return "a lambda" if code.co_name == "<lambda>" else f"{code.co_name}()", place
