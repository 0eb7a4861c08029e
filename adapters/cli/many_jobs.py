"""Several jobs of one `submit`: many files, a folder of pairs, or an input of a kind that stands for many files."""

from __future__ import annotations

import argparse
import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain
from itertools import count as count_from
from pathlib import Path

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import count
from wakestream.adapters.cli.render.table import paragraphs, table, terminal_columns
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.disk.path_key import path_key
from wakestream.adapters.disk.result_names import next_free
from wakestream.adapters.runtime.printing import say
from wakestream.streams.jobs.pairs import pairs_of

MOST = 1000
"""Jobs of one command."""

_OURS = re.compile(r"\.synced(-\d+)?\.mp4\Z")
"""Results of earlier jobs, which are no input of `--pairs`."""

SEPARATORS = tuple({"/", os.sep})
"""The last character of a path that names a folder."""

YES = ("y", "yes", "是", "好", "对")
"""Answers to a question on a terminal."""

_PATTERN = "*?["


@dataclass(frozen=True, slots=True)
class Many:
    """The jobs of a command.

    Attributes:
        jobs: The arguments of each.
        rows: The files of each, for the list: inputs, then the result.
        single: Videos and audio files without a partner.
        hidden: Jobs that have no row.
    """

    jobs: Sequence[argparse.Namespace]
    rows: Sequence[Sequence[str]]
    single: Sequence[str] = ()
    hidden: int = 0


def many_jobs(args: argparse.Namespace) -> Many | None:
    """Return the jobs that the arguments of `submit` ask for; None for one job.

    Patterns such as `*.mp4` are expanded here, if there is no file of that name: the shells of Windows do not do it.
    If they give one video and one audio file, `args` has these afterwards.

    Raises:
        SettingsError: A pattern matches no file, no files belong together, or flags do not fit several jobs.
    """
    if args.kind is not None or args.inputs:
        return _of_kind(args)
    given = [path for path in (args.video, args.audio, *args.more) if path is not None]
    if args.pairs is not None:
        if given:
            raise SettingsError("--pairs takes the files of its folder; leave the other files out")
        return _pairs(args, _files_of(args.pairs))
    files = [file for path in given for file in expanded(path)]
    if len(files) > 2:
        return _pairs(args, files)
    if len(files) > len(given):  # one pattern: its order says nothing
        found = pairs_of([str(file) for file in files])
        if not found.jobs:
            return _pairs(args, files)
        files = [Path(name) for name in found.jobs[0]]
    args.video, args.audio = (*files, None, None)[:2]
    args.more = []
    return None


def expanded(path: Path) -> list[Path]:
    """The files that a pattern stands for, in the order of their names; the path itself if it is no pattern.

    Raises:
        SettingsError: No file matches.
    """
    if not any(letter in str(path) for letter in _PATTERN) or path.exists():
        return [path]
    names = glob.glob(str(path))  # noqa: PTH207 - the pattern may be absolute, or go through several folders
    found = sorted(map(Path, names), key=natural)
    files = [each for each in found if each.is_file()]
    if not files:
        raise SettingsError(f"no file matches {str(path)!r}; check the folder and the pattern")
    return files


def natural(path: Path | str) -> list[tuple[int, str]]:
    """A key by which `clip2` comes before `clip10`."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _files_of(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if not _OURS.search(path.name) and path.is_file()]
    except OSError as error:
        raise SettingsError(f"--pairs {folder}: {error.strerror or error}; give a folder") from None
    return sorted(found, key=natural)


def _pairs(args: argparse.Namespace, files: Sequence[Path]) -> Many:
    found = pairs_of([str(path) for path in files])
    if not found.jobs:
        where = f"{args.pairs}: no" if args.pairs is not None else "no"
        alike = "name them alike, such as clip1.mp4 and clip1.wav"
        raise SettingsError(f"{where} video and audio file belong together by their names; {alike}")
    named = [(Path(video), Path(audio)) for video, audio in found.jobs]
    results = _results(named, _folder(args))
    jobs = []
    for (video, audio), result in zip(named, results, strict=True):
        jobs.append(one_of_many(args, video=video, audio=audio, output=result))
    rows = [(video.name, audio.name, str(result)) for (video, audio), result in zip(named, results, strict=True)]
    return _checked(args, Many(jobs, rows, tuple(Path(name).name for name in found.single)))


def _folder(args: argparse.Namespace) -> Path | None:
    """The folder for the results, which is created; None: each goes beside its video."""
    if args.output is None:
        return None
    folder = Path(args.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"-o {folder}: the results need a folder, and it cannot be created"
        raise SettingsError(f"{why} ({error.strerror or error}); give another one") from None
    return folder


def folder_of_one(args: argparse.Namespace) -> Path | None:
    """The folder of -o for one job, which is created; None if -o is not given or names a file.

    Raises:
        SettingsError: A job of a kind has no -o FILE, or the folder cannot be created.
    """
    if args.output is None:
        return None
    text = os.fspath(args.output)
    is_folder = text.endswith(SEPARATORS) or Path(text).is_dir()
    if args.kind is not None and Path(text).suffix and not is_folder:
        names = f"`wakestream submit --kind {args.kind} --help` shows the names"
        raise SettingsError(f"-o {text}: with --kind, -o is a folder; for a file give --out NAME={text} ({names})")
    return _folder(args) if is_folder or args.kind is not None else None


def _results(pairs: Sequence[tuple[Path, Path]], folder: Path | None) -> list[Path]:
    """A name for each result: that of the video, with that of the audio file if the video is in several jobs.

    No file that exists is replaced, and no two results have the same name.
    """
    videos = [video for video, _ in pairs]
    taken: set[str] = set()
    results: list[Path] = []
    for video, audio in pairs:
        name = video.stem if videos.count(video) == 1 else f"{video.stem}.{audio.stem}"
        results.append(next_free((folder or video.parent) / f"{name}.synced.mp4", taken))
        taken.add(path_key(str(results[-1])))
    return results


def _of_kind(args: argparse.Namespace) -> Many | None:
    """A job for each file of the one input that is a pattern; None if there is no pattern."""
    if args.more or args.pairs is not None:
        raise SettingsError("--kind describes a job without VIDEO and AUDIO; its files are --in NAME=FILE")
    patterns = []
    for at, text in enumerate(args.inputs or ()):
        name, _, value = text.partition("=")
        files = expanded(Path(value)) if value and not value.startswith("@") else []
        if len(files) > 1 or (files and files[0] != Path(value)):
            patterns.append((at, name, files))
    if not patterns:
        return None
    if len(patterns) > 1:
        raise SettingsError("only one --in may be a pattern: each of its files becomes a job")
    if args.outputs:
        raise SettingsError("leave --out out: with a pattern each result is put beside its input, under a free name")
    ((at, name, files),) = patterns
    jobs = []
    folder = _folder(args)
    named = [file if folder is None else folder / file.name for file in files]
    # Paths after which the results are named: the files, as `a.png.png` where two differ in their endings only.
    keys = [path_key(str(file.with_suffix(""))) for file in named]
    taken: set[str] = set()
    found = []
    for file, key in zip(named, keys, strict=True):
        names = chain([file.stem][keys.count(key) > 1 :], [file.name], (f"{file.name}-{n}" for n in count_from(2)))
        stem = next(name for name in names if path_key(str(file.with_name(name))) not in taken)
        taken.add(path_key(str(file.with_name(stem))))
        found.append(file.with_name(f"{stem}{file.suffix}"))
    for file, beside in zip(files, found, strict=True):
        inputs = [f"{name}={file}" if number == at else text for number, text in enumerate(args.inputs)]
        jobs.append(one_of_many(args, inputs=inputs, beside=beside, output=None))
    return _checked(args, Many(jobs, [(file.name,) for file in files]))


def one_of_many(args: argparse.Namespace, **own: object) -> argparse.Namespace:
    """The arguments of one of the jobs, with other values for some of them."""
    one = copy(args)
    one.more, one.pairs, one.numbered = [], None, True
    for name, value in own.items():
        setattr(one, name, value)
    return one


def _checked(args: argparse.Namespace, many: Many) -> Many:
    if len(many.jobs) > MOST:
        raise SettingsError(f"{len(many.jobs)} jobs are too many for one command; submit at most {MOST} at once")
    if args.job_id is not None and len(many.jobs) > 1:
        raise SettingsError("--job-id names one job; leave it out for several")
    if args.then:
        raise SettingsError("--then needs one job before it; submit the chains one by one")
    return many


def agrees(*question: str) -> bool:
    """Ask on a terminal; without one, or without an answer, it is no."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    say(*question)
    return sys.stdin.readline().strip().lower() in YES


def confirmed(args: argparse.Namespace, many: Many, estimate: Callable[[], Iterable[str]] = tuple) -> bool:
    """Show the jobs, and ask on a terminal whether to submit them; `--yes` answers.

    Args:
        args: The arguments of the command.
        many: The jobs.
        estimate: Returns what is said before the question of the time and the money that they take.

    Raises:
        SettingsError: There is no terminal and no `--yes`.
    """
    if not args.json:
        say(*_list(many))
    if args.yes:
        return True
    if args.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingsError(f"{len(many.jobs)} jobs: give --yes to submit them without a question")
    say(*paragraphs([*estimate()], terminal_columns()))
    say(t("many.ask", jobs=count(len(many.jobs))))
    said = sys.stdin.readline()  # with a line break, unless the terminal has ended
    return said.strip().lower() in ("", *YES) if said else False


def _list(many: Many) -> Iterable[str]:
    columns = terminal_columns()
    heads = {1: ("many.input",), 2: ("many.input", "many.result"), 3: ("many.video", "many.audio", "many.result")}
    head = heads[len(many.rows[0])]
    yield from paragraphs(table([[t(name) for name in head], *many.rows]), columns)
    if many.hidden:
        yield t("kinds.more", count=many.hidden)
    if many.single:
        yield from paragraphs([t("many.single", names=t("list.comma").join(many.single))], columns)
