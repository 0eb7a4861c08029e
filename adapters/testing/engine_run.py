"""Try an engine without a worker: one work, checked before and after as a worker does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wakestream.adapters.worker.task_queue import checked_outputs
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Preview, Work
from wakestream.operators.model.errors import EngineUnreachable, WrongInput
from wakestream.streams.protocol.kinds import fitting, kind_from, made_for, plain_kind


@dataclass(slots=True)
class EngineRun:
    """What an engine did.

    Attributes:
        files: The outputs by name.
        frames: The progress.
        lines: The lines for the worker's log.
        previews: What it had before the end; those that may not be shown, too.
    """

    files: dict[str, Path] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)


async def run_engine(
    engine: Engine,
    kind: str,
    inputs: Mapping[str, Path],
    params: Mapping[str, Any] | None = None,
    *,
    folder: Path,
    outputs: Sequence[str] = (),
) -> EngineRun:
    """Do one work.

    Args:
        engine: The engine.
        kind: The kind of the work.
        inputs: The input files.
        params: The parameters; defaults are filled in.
        folder: An empty folder for the outputs.
        outputs: The outputs that the job wants; by default all that the kind requires.

    Returns:
        The outputs that were made, the progress and the log lines.

    Raises:
        EngineUnreachable: The engine is not ready; the message is its reason.
        WrongInput: The job does not fit the kind, or the engine says that a field is to blame.
        TaskFailed: The engine failed, or all outputs are missing, empty, or not in the folder.
        ValueError: The engine describes a kind that is not valid.

    Example:
        >>> run = await run_engine(Tones(), "tones", {"text": Path("hello.txt")}, {"speed": 20}, folder=tmp_path)
        >>> run.files["audio"].stat().st_size
    """
    known = await _described(engine, kind)
    wanted = tuple(outputs or (slot.name for slot in known.outputs if slot.required))
    exts = {name: path.suffix.lower() for name, path in inputs.items()}
    filled = fitting(known, exts, params or {}, wanted)
    wanted, run, made = made_for(known, wanted), EngineRun(), dict[tuple[str, int], Path]()
    async with aclosing(engine.render(Work("0" * 32, kind, inputs, filled, wanted, folder))) as items:
        async for item in items:
            match item:
                case Frame():
                    run.frames.append(item)
                case Line(text):
                    run.lines.append(text)
                case Preview():
                    run.previews.append(item)
                case Made(name, path, number):
                    made[name, number] = path
    run.files = checked_outputs(wanted, made, folder)
    return run


async def _described(engine: Engine, name: str) -> Kind:
    now = await engine.ready()
    if not now.ready:
        raise EngineUnreachable(now.reason)
    kinds = {kind.name: kind_from(plain_kind(kind), own=True) for kind in await engine.describe()}
    if name not in kinds:
        raise WrongInput("kind", f"the engine has no kind {name!r}; it has {', '.join(kinds)}")
    return kinds[name]
