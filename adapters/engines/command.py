"""The engine `command`: the user's program, given as a template: `python lipsync.py {video} {audio} -o {output}`."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.atomic import atomic_output
from wakestream.adapters.engines.box import Box
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.pair import PairEngine
from wakestream.adapters.engines.run_process import run_program
from wakestream.operators.model.engine import Frame
from wakestream.operators.model.errors import TaskFailed

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")
_NEEDED = ("{video}", "{audio}", "{output}")


class BadTemplateError(ValueError):
    """The template is not valid; `str()` says how to write it."""


def checked_template(words: Sequence[str]) -> tuple[str, ...]:
    """Check that a command has all placeholders.

    No shell is used: variables, pipes and wildcards are plain text.

    Args:
        words: The program and its arguments.

    Returns:
        The words.

    Raises:
        BadTemplateError: A placeholder is missing.
    """
    missing = [name for name in _NEEDED if not any(name in word for word in words)]
    if missing:
        raise BadTemplateError(f"lacks {' and '.join(missing)}; write for example: python run.py {' '.join(_NEEDED)}")
    return tuple(words)


def percent_in(line: str) -> float | None:
    """The last percentage in a line of output, such as `37%` or `frame 3 (12.5 %)`; None without one from 0 to 100."""
    found = _PERCENT.findall(line)
    percent = float(found[-1]) if found else -1.0
    return percent if 0 <= percent <= 100 else None


@dataclass(frozen=True, slots=True)
class Command:
    """Renders by running a program.

    Args:
        words: The result of `checked_template`.
        limit: The most seconds for a run.
        box: Restrictions of the run.

    Example:
        >>> engine = Command(checked_template(["render", "{video}", "{audio}", "{output}"]))
    """

    words: tuple[str, ...]
    limit: float = 4 * 3600.0
    box: Box | None = None

    async def check(self) -> None:
        """Check that the program exists. `TaskFailed`: it does not."""
        if shutil.which(self.words[0]) is None:
            raise TaskFailed(f"the program {self.words[0]!r} was not found: install it, or give its full path")

    async def render(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        """Run the command; yields the percentages in its output, if any."""
        async with atomic_output(output) as partial:
            given = {"{video}": str(video), "{audio}": str(audio), "{output}": str(partial)}
            # All at once, so that a path with "{audio}" in it stays as it is.
            placeholder = re.compile("|".join(map(re.escape, given)))
            argv = [placeholder.sub(lambda found: given[found[0]], word) for word in self.words]
            last = None
            async with aclosing(run_program(argv, limit=self.limit, merge=True, box=self.box)) as lines:
                async for line in lines:
                    if (percent := percent_in(line)) is not None and percent != last:
                        last = percent
                        yield Frame(0, 0, percent)


def create(config: EngineConfig) -> PairEngine:
    """The engine for a worker. Raises `SettingsError`."""
    config.known("command", ())
    if not config.command:
        raise SettingsError('--engine command needs --command "python run.py {video} {audio} {output}"')
    try:
        return PairEngine(Command(checked_template(config.command), limit=config.limit, box=config.box))
    except BadTemplateError as error:
        raise SettingsError(f"--command {error}") from None
