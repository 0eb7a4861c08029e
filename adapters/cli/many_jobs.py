"""Several jobs of one `submit`: many files, a folder of pairs, or an input of a kind that stands for many files."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from itertools import count as count_from
from pathlib import Path

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import count
from wakestream.adapters.cli.render.table import paragraphs, table, terminal_columns
from wakestream.adapters.cli.submission import JobFlags, result_folder
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.disk.path_key import path_key
from wakestream.adapters.disk.result_names import next_free
from wakestream.adapters.runtime.printing import YES, say
from wakestream.streams.jobs.pairs import Pairs, pairs_of

MOST = 1000
"""Jobs of one command."""

_OURS = re.compile(r"\.synced(-\d+)?\.mp4\Z")
"""Results of earlier jobs, which are no input of `--pairs`."""

_PATTERN = "*?["


@dataclass(frozen=True, slots=True)
class Many:
    """The jobs of a command.

    Attributes:
        jobs: The flags of each.
        rows: The files of each, for the list: inputs, then the result.
        single: Videos and audio files without a partner.
        hidden: Jobs that have no row.
    """

    jobs: Sequence[JobFlags]
    rows: Sequence[Sequence[str]]
    single: Sequence[str] = ()
    hidden: int = 0


def many_jobs(flags: JobFlags, more: Sequence[Path], pairs: Path | None, *, is_chain: bool) -> Many | JobFlags:
    """Return the jobs that the flags of `submit` ask for; for one job its flags, with its files.

    Patterns such as `*.mp4` are expanded here, if there is no file of that name: the shells of Windows do not do it.

    Args:
        flags: The flags of a job.
        more: Further files, or patterns.
        pairs: The folder of `--pairs`.
        is_chain: Whether another job follows.

    Raises:
        SettingsError: A pattern matches no file, no files belong together, or flags do not fit several jobs.
    """
    many = _many(flags, more, pairs)
    if isinstance(many, JobFlags):
        return many
    if len(many.jobs) > MOST:
        raise SettingsError(f"{len(many.jobs)} jobs are too many for one command; submit at most {MOST} at once")
    if is_chain:
        raise SettingsError("--then needs one job before it; submit the chains one by one")
    if flags.job_id is not None and len(many.jobs) > 1:
        raise SettingsError("--job-id names one job; leave it out for several")
    return many


def _many(flags: JobFlags, more: Sequence[Path], pairs: Path | None) -> Many | JobFlags:
    if flags.kind is not None or flags.inputs:
        if more or pairs is not None:
            raise SettingsError("--kind describes a job without VIDEO and AUDIO; its files are --in NAME=FILE")
        return _of_kind(flags)
    given = [path for path in (flags.video, flags.audio, *more) if path is not None]
    if pairs is not None:
        if given:
            raise SettingsError("--pairs takes the files of its folder; leave the other files out")
        return _pairs(flags, _files_of(pairs), f"{pairs}: no")
    files = [file for path in given for file in expanded(path)]
    if len(files) > 2:
        return _pairs(flags, files)
    if len(files) > len(given):  # one pattern: its order says nothing
        files = [Path(name) for name in _matched(files).jobs[0]]
    video, audio = (*files, None, None)[:2]
    return replace(flags, video=video, audio=audio)


def expanded(path: Path) -> list[Path]:
    """The files that a pattern stands for, in the order of their names; the path itself if it is no pattern.

    Raises:
        SettingsError: No file matches.
    """
    if not any(letter in str(path) for letter in _PATTERN) or path.exists():
        return [path]
    names = glob.glob(str(path))  # noqa: PTH207 - the pattern may be absolute, or go through several folders
    files = [file for file in sorted(map(Path, names), key=natural) if file.is_file()]
    if not files:
        raise SettingsError(f"no file matches {str(path)!r}; check the folder and the pattern")
    return files


def natural(path: Path | str) -> list[tuple[int, str]]:
    """A key by which `clip2` comes before `clip10`."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _files_of(folder: Path) -> list[Path]:
    try:
        files = [path for path in folder.iterdir() if not _OURS.search(path.name) and path.is_file()]
    except OSError as error:
        raise SettingsError(f"--pairs {folder}: {error.strerror or error}; give a folder") from None
    return sorted(files, key=natural)


def _matched(files: Sequence[Path], no: str = "no") -> Pairs:
    matched = pairs_of([str(path) for path in files])
    if not matched.jobs:
        alike = "name them alike, such as clip1.mp4 and clip1.wav"
        raise SettingsError(f"{no} video and audio file belong together by their names; {alike}")
    return matched


def _pairs(flags: JobFlags, files: Sequence[Path], no: str = "no") -> Many:
    matched = _matched(files, no)
    pairs = [(Path(video), Path(audio)) for video, audio in matched.jobs]
    jobs, rows = [], []
    for (video, audio), result in zip(pairs, _results(pairs, _folder(flags)), strict=True):
        jobs.append(replace(flags, video=video, audio=audio, output=str(result), numbered=True))
        rows.append((video.name, audio.name, str(result)))
    return Many(jobs, rows, tuple(Path(name).name for name in matched.single))


def _folder(flags: JobFlags) -> Path | None:
    """The folder for the results; None: each goes beside its video."""
    return None if flags.output is None else result_folder(flags.output)


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


def _of_kind(flags: JobFlags) -> Many | JobFlags:
    """A job for each file of the one input that is a pattern; without a pattern it is one job."""
    patterns = []
    for at, text in enumerate(flags.inputs):
        name, _, value = text.partition("=")
        files = expanded(Path(value)) if value and not value.startswith("@") else []
        if len(files) > 1 or (files and files[0] != Path(value)):
            patterns.append((at, name, files))
    if not patterns:
        return flags
    if len(patterns) > 1:
        raise SettingsError("only one --in may be a pattern: each of its files becomes a job")
    if flags.outputs:
        raise SettingsError("leave --out out: with a pattern each result is put beside its input, under a free name")
    ((at, name, files),) = patterns
    jobs = []
    folder = _folder(flags)
    named = [file if folder is None else folder / file.name for file in files]
    # Paths after which the results are named: the files, as `a.png.png` where two differ in their endings only.
    keys = [path_key(str(file.with_suffix(""))) for file in named]
    taken: set[str] = set()
    paths = []
    for file, key in zip(named, keys, strict=True):
        names = chain([file.stem][keys.count(key) > 1 :], [file.name], (f"{file.name}-{n}" for n in count_from(2)))
        stem = next(name for name in names if path_key(str(file.with_name(name))) not in taken)
        taken.add(path_key(str(file.with_name(stem))))
        paths.append(file.with_name(f"{stem}{file.suffix}"))
    for file, beside in zip(files, paths, strict=True):
        inputs = [f"{name}={file}" if number == at else text for number, text in enumerate(flags.inputs)]
        jobs.append(replace(flags, inputs=inputs, beside=beside, output=None, numbered=True))
    return Many(jobs, [(file.name,) for file in files])


def confirmed(many: Many, estimate: Callable[[], Iterable[str]], *, yes: bool) -> bool:
    """Show the jobs, and ask on a terminal whether to submit them; `--yes` answers.

    Args:
        many: The jobs.
        estimate: Returns what is said before the question of the time and the money that they take.
        yes: The answer is yes without a question.

    Raises:
        SettingsError: There is no terminal and no `--yes`.
    """
    as_json = many.jobs[0].as_json
    if not as_json:
        say(*_list(many))
    if yes:
        return True
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingsError(f"{len(many.jobs)} jobs: give --yes to submit them without a question")
    say(*paragraphs([*estimate()], terminal_columns()))
    say(t("many.ask", jobs=count(len(many.jobs))))
    said = sys.stdin.readline()  # with a line break, unless the terminal has ended
    if said and said.strip().lower() in ("", *YES):
        return True
    say(t("many.none"))
    return False


def _list(many: Many) -> Iterable[str]:
    columns = terminal_columns()
    heads = {1: ("many.input",), 2: ("many.input", "many.result"), 3: ("many.video", "many.audio", "many.result")}
    head = heads[len(many.rows[0])]
    yield from paragraphs(table([[t(name) for name in head], *many.rows]), columns)
    if many.hidden:
        yield t("kinds.more", count=many.hidden)
    if many.single:
        yield from paragraphs([t("many.single", names=t("list.comma").join(many.single))], columns)
