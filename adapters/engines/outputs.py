"""The files that a program makes for a work: their paths, and whether they are there at its end."""

from __future__ import annotations

from pathlib import Path

from wakestream.operators.model.engine import Kind, Made
from wakestream.operators.model.errors import TaskFailed
from wakestream.streams.protocol.kinds import output_ext


def output_paths(kind: Kind, folder: Path) -> dict[str, Path]:
    """Where each output of a kind is written, by name."""
    return {slot.name: folder / f"{slot.name}{output_ext(slot)}" for slot in kind.outputs}


def made(program: str, name: str, path: Path, advice: str = "") -> Made:
    """Check an output of a program that ended well.

    Args:
        program: The program, for the message.
        name: The output.
        path: Its file.
        advice: What to do if it is missing.

    Raises:
        TaskFailed: It is missing or empty, or not a file; the message names it.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        fault = "made something else than a file for"
    elif not path.exists():
        fault = "wrote no"
    elif not path.stat().st_size:
        fault = "wrote an empty file for the"
    else:
        return Made(name, path)
    raise TaskFailed(f"{program} succeeded but {fault} output {name!r}{advice and f'; {advice}'}")


def searched(program: str, name: str, pattern: str, folder: Path) -> Made:
    """Find an output by a pattern such as `*.srt` in the work's folder.

    Raises:
        TaskFailed: No file fits, or several do, or it is empty; the message names the output.
    """
    fitting = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(fitting) > 1:
        names = ", ".join(path.name for path in fitting[:5])
        raise TaskFailed(f"{program} wrote {len(fitting)} files that fit the output {name!r} ({pattern}): {names}")
    if not fitting:
        raise TaskFailed(f"{program} succeeded but wrote no file that fits the output {name!r} ({pattern})")
    return made(program, name, fitting[0])
