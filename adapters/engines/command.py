"""The engine `command`: your programs, each with a template of its command line.

Options: `manifest` (the kinds, see docs/engines/command.md). Without it, `--command "python run.py {video} {audio}
{output}"` is the one kind lip-sync.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Final

from wakestream.adapters.config.setting_files import SettingsError, naming
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.http_engine import NotMade, outputs_of
from wakestream.adapters.engines.manifest import Entry, Keys, read_manifest
from wakestream.adapters.engines.program_output import ProgramOutput, Reader, reader_of
from wakestream.adapters.engines.run_process import Box, run_program
from wakestream.adapters.engines.template import Template, Values, template_of
from wakestream.operators.model.engine import PREVIEW_FILE, Engine, Frame, Kind, Line, Made, Readiness, Slot, Work
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.protocol.kinds import output_ext, with_defaults

LIPSYNC_KIND: Final = Kind(
    LIPSYNC,
    (Slot("video", ("video", "image"), "Video"), Slot("audio", ("audio", "video"), "Audio")),
    (Slot("video", (".mp4",), "Video"),),
    title="Lip-sync",
    help="The person in the video speaks the audio.",
)
"""The kind that deployed systems know."""

_NUMBER: Final = re.compile(r"\d{1,18}")
_OLD: Final = {"{video}": "{in:video}", "{audio}": "{in:audio}", "{output}": "{out:video}"}


@dataclass(frozen=True, slots=True)
class Program:
    """How one kind is done.

    Args:
        kind: The kind.
        template: The command.
        read: Reads progress in its output.
        cwd: The folder that it runs in; None for the worker's.
        search: Patterns of the outputs that are looked for in the work's folder.
    """

    kind: Kind
    template: Template
    read: Reader
    cwd: Path | None = None
    search: Mapping[str, str] = field(default_factory=dict)

    async def run(self, work: Work, limit: float, box: Box | None) -> AsyncGenerator[Frame | Line | Made, None]:
        """Do one work, as `Engine.render` does."""
        outputs = {slot.name: work.folder / f"{slot.name}{output_ext(slot)}" for slot in self.kind.outputs}
        params = with_defaults(self.kind, work.params)  # an old submit of a pair has none
        values = Values(work.inputs, params, outputs, work.outputs, work.folder)
        program = self.template.program
        argv = self.template.argv(values, batch=is_batch_file(shutil.which(program) or program))
        output = ProgramOutput(self.read)
        async with aclosing(run_program(argv, limit=limit, merge=True, box=box, cwd=self.cwd)) as lines:
            async for line in lines:
                for item in output.take(line):
                    yield item

        async def written(slot: Slot) -> AsyncGenerator[Made, None]:
            pattern = self.search.get(slot.name)
            paths = [outputs[slot.name]] if pattern is None else _searched(slot, pattern, work.folder)
            for number, path in enumerate(paths, 1):
                yield Made(slot.name, path, number)

        async for made in outputs_of(work, self.kind, written):
            yield made


class Command(Engine):
    """Runs a program for each work.

    Args:
        programs: One for each kind.
        limit: The most seconds for a run.
        box: Restrictions of the runs.

    Example:
        >>> engine = Command(programs_of(Path("kinds.toml")), limit=600.0)
    """

    parallel = True

    def __init__(self, programs: Sequence[Program], *, limit: float = 4 * 3600.0, box: Box | None = None) -> None:
        self.programs = {program.kind.name: program for program in programs}
        self._limit, self._box = limit, box

    async def describe(self) -> Sequence[Kind]:
        """The kinds of its programs."""
        return [program.kind for program in self.programs.values()]

    async def ready(self) -> Readiness:
        """Whether all programs are there."""
        for name, program in self.programs.items():
            if shutil.which(program.template.program) is None:
                why = f"the program {program.template.program!r} was not found: install it, or give its full path"
                return Readiness(False, why if len(self.programs) == 1 else f"kind {name}: {why}")
        return Readiness(True)

    def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """Run the program of the work's kind."""
        return self.programs[work.kind].run(work, self._limit, self._box)

    async def cancel(self, work: Work) -> None:
        """Nothing is left to stop when the generator is closed: that kills the program and its children."""

    async def close(self) -> None:
        """Nothing is open."""


def _searched(slot: Slot, pattern: str, folder: Path) -> list[Path]:
    """The files in the work's folder that fit the pattern of an output, those of a list by the numbers in their names.

    Raises `TaskFailed`, which names the output.
    """
    files = [path for path in folder.glob(pattern) if path.name != PREVIEW_FILE]
    paths = sorted(files, key=lambda path: ([int(part) for part in _NUMBER.findall(path.name)], path))
    if not paths:
        raise NotMade(f"the engine succeeded but wrote no file that fits the output {slot.name!r} ({pattern})")
    if len(paths) > 1 and not slot.many:
        names = ", ".join(path.name for path in paths[:5])
        raise TaskFailed(
            f"the engine succeeded but wrote {len(paths)} files that fit the output {slot.name!r} ({pattern}): {names}"
        )
    return paths


def is_batch_file(program: str) -> bool:
    """Whether Windows runs this program by its shell."""
    return program.lower().endswith((".bat", ".cmd"))


def lipsync_program(words: Sequence[str]) -> Program:
    """Return the program for the kind lip-sync.

    No shell is used: variables, pipes and wildcards are plain text.

    Args:
        words: The program and its arguments, with `{video}`, `{audio}` and `{output}`.

    Raises:
        SettingsError: A placeholder is missing.

    Example:
        >>> engine = Command([lipsync_program(["render", "{video}", "{audio}", "{output}"])])
    """
    renamed = list(words)
    for old, new in _OLD.items():
        renamed = [word.replace(old, new) for word in renamed]
    missing = [old for old, new in _OLD.items() if not any(new in word for word in renamed)]
    if missing:
        example = f"python run.py {' '.join(_OLD)}"
        raise SettingsError(f"--command lacks {' and '.join(missing)}; write for example: {example}")
    with naming("--command:"):
        return Program(LIPSYNC_KIND, template_of(renamed, LIPSYNC_KIND), reader_of(None))


def programs_of(manifest: Path) -> list[Program]:
    """Read the programs of a manifest. Raises `SettingsError`; the message names the place in the file."""
    entries = read_manifest(manifest, Keys(("command", "progress", "cwd"), ("command",), output="search"))
    return [_program(manifest, entry) for entry in entries]


def _program(manifest: Path, entry: Entry) -> Program:
    own, search = entry.own, entry.of["outputs"]
    at = f"{manifest}: kinds.{entry.kind.name}"
    folder = manifest.absolute().parent / str(own.get("cwd", ""))
    if not folder.is_dir():
        raise SettingsError(f"{at}.cwd: there is no such folder: {folder}")
    for name, pattern in search.items():
        if not pattern or PurePath(pattern).is_absolute() or ".." in PurePath(pattern).parts:
            raise SettingsError(f"{at}.outputs.{name}.search: {pattern!r} must be a pattern such as *.srt")
    if loose := next((slot.name for slot in entry.kind.outputs if slot.many and slot.name not in search), None):
        raise SettingsError(f'{at}.outputs.{loose}: a list needs search, such as search = "*.png"')
    with naming(f"{at}.progress:"):
        read = reader_of(own.get("progress"))
    with naming(f"{at}.command:"):
        template = template_of(own["command"], entry.kind, searched=search)
    return Program(entry.kind, _at_home(template, folder), read, folder, search)


def _at_home(template: Template, folder: Path) -> Template:
    """The template with the full path of a program that is given by a relative one, such as `./run`."""
    has_folder = any(separator in template.program for separator in (os.sep, os.altsep) if separator)
    return replace(template, program=str(folder / template.program)) if has_folder else template


def create(config: EngineConfig) -> Command:
    """The engine for a worker. Raises `SettingsError`."""
    manifest = config.known("command", ("manifest",)).get("manifest")
    if bool(manifest) == bool(config.command):
        raise SettingsError(
            'the engine command needs either --command "python run.py {video} {audio} {output}" or '
            f"--engine-option manifest=FILE; {'both are' if manifest else 'none is'} given"
        )
    if manifest:
        return Command(programs_of(Path(manifest).expanduser()), limit=config.limit, box=config.box)
    return Command([lipsync_program(config.command)], limit=config.limit, box=config.box)
