"""`--pipeline MODULE:EXPRESSION`: the jobs go, or went, through a pipeline of the user's own."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from wakestream.adapters.cli import flags
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build

Make = Callable[[], "Build"]
"""Makes the pipeline: one that keeps state across its jobs must not be shared between replays."""

TAKES = ("job", "world", "policy", "cancel")


class NoPipeline(ValueError):
    """There is no such pipeline; `str()` says why."""


WENT_THROUGH = (
    "your own pipeline if the jobs used one, or a call that makes it, such as batch:batched(5, 60.0); this "
    "folder is searched too"
)


def flag(parser: argparse.ArgumentParser, help_text: str = WENT_THROUGH) -> None:
    """Declare `--pipeline`."""
    flags.add(parser, "--pipeline MODULE:NAME", help_text)


def pipeline(named: str | None) -> Make:
    """What makes the pipeline that `--pipeline` names, or the standard one. `NoPipeline` when it cannot be had."""
    if named is None:
        return lambda: job_pipeline
    name, _, expression = named.partition(":")
    if not name or not expression:
        raise NoPipeline(f"--pipeline {named!r}: write MODULE:NAME, such as my_pipelines:two_pass")
    module = _module(named, name)
    _checked(named, _value(named, module, expression))
    return lambda: _checked(named, _value(named, module, expression))


def _module(named: str, name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NoPipeline(f"--pipeline {named}: {error}") from None
    except Exception as error:  # the module is the user's, and may do anything
        raise NoPipeline(f"--pipeline {named}: importing {name} failed with {_said(error)}") from error


def _value(named: str, module: ModuleType, expression: str) -> Any:
    try:
        return eval(expression, vars(module))  # noqa: S307 - as with `python -c`, it is the user's own code
    except NameError as error:
        raise NoPipeline(f"--pipeline {named}: module {module.__name__!r} has no attribute {error.name!r}") from None
    except (AttributeError, SyntaxError) as error:
        raise NoPipeline(f"--pipeline {named}: {getattr(error, 'msg', error)}") from None
    except Exception as error:
        raise NoPipeline(f"--pipeline {named}: {_said(error)}") from error


def _checked(named: str, found: Any) -> Build:
    """`found`, if it is a pipeline as far as that can be seen before it is called."""
    takes = f"a pipeline takes ({', '.join(TAKES)})"
    what = _no_function(found)
    if what is not None:
        raise NoPipeline(f"--pipeline {named}: it is {what}, not a pipeline; {takes} and returns an observable")
    try:
        signature = inspect.signature(found, follow_wrapped=False)
    except ValueError:  # some built-in functions tell nothing
        return found  # type: ignore[no-any-return]
    try:
        signature.bind(*TAKES)
    except TypeError:
        parameters = ", ".join(signature.parameters)
        raise NoPipeline(
            f"--pipeline {named}: it takes ({parameters}); {takes}. "
            "Decorate a function of the stages with @pipeline, and call a function that makes a pipeline"
        ) from None
    return found  # type: ignore[no-any-return]  # what it returns shows when it is called


def _no_function(found: Any) -> str | None:
    """What else it is, or None."""
    if isinstance(found, type):
        return "a class"
    if inspect.iscoroutinefunction(found):
        return "an async function"
    return None if callable(found) else f"a {type(found).__name__}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
