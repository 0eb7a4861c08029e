"""`--pipeline MODULE:NAME`: jobs that went through a pipeline of the user's own are replayed through it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wakestream.streams.daemon import Build


class NoPipeline(ValueError):
    """There is no such pipeline; `str()` says why."""


def flag(parser: argparse.ArgumentParser) -> None:
    """Declare `--pipeline`."""
    parser.add_argument(
        "--pipeline",
        metavar="MODULE:NAME",
        help="the function that builds the jobs' pipeline, if they had one of your own; looked for in this folder too",
    )


def pipeline(named: str | None) -> Build:
    """The function that `--pipeline` names, or the standard pipeline. `NoPipeline` when it cannot be had."""
    import importlib
    import sys

    from wakestream.streams.job import job_pipeline

    if named is None:
        return job_pipeline
    module, _, name = named.partition(":")
    if not module or not name:
        raise NoPipeline(f"--pipeline {named!r}: write MODULE:NAME, such as my_pipelines:two_pass")
    sys.path.insert(0, "")  # as `python -m` does
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NoPipeline(f"--pipeline {named}: {error}") from None
    if not callable(found):
        raise NoPipeline(f"--pipeline {named}: it is no function (job, world, policy, cancel) -> observable")
    return found  # type: ignore[no-any-return]  # what it is shows when it is called
