"""What an engine can do, and the interface between the worker and an engine.

A kind of job is named input files, JSON parameters and named output files. An engine describes its kinds; hub, client,
console and command line check a job against the description before a machine is woken.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from wakestream.operators.model.events import JobSpec

MAX_FILES = 64
"""The most input files of a job, and the most output files."""

MAX_PARAMS = 16 * 1024
"""The most bytes of a job's parameters, as JSON."""

PREVIEW_FILE = ".preview.jpg"
"""No output has this name."""

LISTS = "lists"
"""The feature of workers that make and name all files of an output that is a list."""


def numbered(name: str, number: int) -> str:
    """Return the name of a file of the list `name`: the first is called like the list, the next ones get a number.

    Example:
        >>> [numbered("images", number) for number in (1, 2, 12)]
        ['images', 'images_2', 'images_12']
    """
    return name if number == 1 else f"{name}_{number}"


def list_of(name: str, lists: Container[str]) -> str:
    """Return which of the `lists` this is a further file of; empty if of none.

    Example:
        >>> list_of("images_12", {"images"}), list_of("images", {"images"})
        ('images', '')
    """
    of, _, number = name.rpartition("_")
    return of if of in lists and number.isdecimal() and numbered(of, int(number)) == name and name != of else ""


def files_of(name: str, names: Iterable[str]) -> list[str]:
    """Return those of the names that are files of the list `name`, in order."""
    own = [each for each in names if each == name or list_of(each, (name,))]
    return sorted(own, key=lambda each: (len(each), each))


@dataclass(frozen=True, slots=True)
class Slot:
    """A named file of a kind.

    Attributes:
        name: The name in jobs: a letter, then up to 31 letters, digits or underscores, all lower case.
        accepts: Media types (`video`, `audio`, `image`, `text`) and file endings (`.srt`) that fit; empty for any file.
            For an output, the first ending is the one of the file that is made.
        title: A few words for people; empty: the name.
        help: A sentence for people.
        required: Whether a job must have it. An output that is not required may be left out of a job.
        many: Whether it is a list of files. The further files are named `NAME_2`, `NAME_3`, … in jobs.
    """

    name: str
    accepts: tuple[str, ...] = ()
    title: str = ""
    help: str = ""
    required: bool = True
    many: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that an engine can do.

    Attributes:
        name: The name in jobs, such as `lipsync`.
        inputs: The input files.
        outputs: The output files; the first is the main one.
        params: The JSON Schema of the parameters: an object with `properties`, and in each the words that
            docs/protocol-jobs.md lists, and `pattern`. The engine itself must check what other words say.
        title: A few words for people; empty: the name.
        help: A sentence for people.
        version: What makes the results, in a few letters, such as a hash of the workflow or the version of the model.
            The result of one version is not used for another. Empty: the rest of the description counts.
        deterministic: Whether the same inputs and parameters give the same result. If not, no job gets the result of
            another job. None: not declared; then only a program's job gets no other's result.
        seed: The name of the parameter with the seed. A job that leaves it out gets a seed of its own.

    Example:
        >>> Kind("upscale", (Slot("video", ("video",)),), (Slot("video", (".mp4",)),)).name
        'upscale'
    """

    name: str
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    help: str = ""
    version: str = ""
    deterministic: bool | None = None
    seed: str = ""


@dataclass(frozen=True, slots=True)
class Work(JobSpec):
    """One task for an engine.

    Attributes:
        id: The task's id; the same work has the same id after a restart of the worker.
        kind: The name of the kind.
        inputs: The input files by name. They are read-only, and their names are hashes with the right ending.
        params: The parameters, which fit the kind's schema; defaults are filled in.
        outputs: The names of the outputs that the job wants.
        folder: An empty folder of this work, on the disk of the worker's results. It is removed at the end.
        attempt: 1, then 2, … if the work is repeated.
    """

    id: str
    kind: str
    inputs: Mapping[str, Path]
    params: Mapping[str, Any]
    outputs: tuple[str, ...]
    folder: Path
    attempt: int = 1

    @property
    def preview(self) -> Path:
        """Where a program may write what it has so far, again and again: a JPEG, PNG or WebP picture."""
        return self.folder / PREVIEW_FILE

    def files(self, name: str) -> list[Path]:
        """Return the files of the input `name` in order: several of a list, none if the job has none.

        Example:
            >>> Work("t", "join", {"images": Path("a"), "images_2": Path("b")}, {}, (), Path()).files("images")
            [PosixPath('a'), PosixPath('b')]
        """
        return [self.inputs[each] for each in files_of(name, self.inputs)]


@dataclass(frozen=True, slots=True)
class Frame:
    """The progress of an engine: frame `frame` of `frames` (0 if unknown), `percent` 0-100."""

    frame: int
    frames: int
    percent: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the engine's log, for the worker's log and for the message of a failure."""

    text: str


@dataclass(frozen=True, slots=True)
class Waits(Line):
    """The work waits in the engine's own queue, until the next item; that is no hang. `before`: works before it."""

    before: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """An output is finished: the complete file `path`, in the work's folder. Its ending is the output's ending.

    `number` is 1, 2, … for the files of an output that is a list; the order counts, and numbers may be missing.
    """

    name: str
    path: Path
    number: int = 1


PREVIEWS = "previews"
"""The feature of workers that show what the engine has so far."""

MAX_PREVIEW = 64 * 1024
"""The most bytes of a preview."""

TEXT = "text/plain"


@dataclass(frozen=True, slots=True)
class Preview:
    """What the engine has so far, for people who look on: a picture, or the whole text. It is never kept.

    `media` is `image/jpeg`, `image/png`, `image/webp` or `text/plain` (UTF-8). Others, and those with more than
    `MAX_PREVIEW` bytes, are ignored.
    """

    media: str
    data: bytes

    @property
    def fits(self) -> bool:
        """Whether it may be shown: of a picture, the first bytes must tell the same type.

        Example:
            >>> Preview("text/plain", b"Once").fits, Preview("image/png", b"<svg>").fits
            (True, False)
        """
        if not 0 < len(self.data) <= MAX_PREVIEW:
            return False
        return self.media == (picture_type(self.data) or TEXT)

    def plain(self) -> dict[str, str]:
        """As JSON: a text as it is, a picture as base64.

        Example:
            >>> Preview("text/plain", b"Once").plain()
            {'media': 'text/plain', 'text': 'Once'}
        """
        if self.media == TEXT:
            return {"media": TEXT, "text": self.data.decode(errors="replace")}
        return {"media": self.media, "data": b64encode(self.data).decode()}


def picture_type(data: bytes) -> str:
    """Return the media type of a picture by its first bytes; empty for all that a page must not show.

    Example:
        >>> picture_type(b"GIF89a"), picture_type(bytes.fromhex("ffd8ffe0"))
        ('', 'image/jpeg')
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the engine can work now; `reason` is a sentence for people if it cannot, or not do all its kinds.

    `crashed`: only a restart of the engine helps. The worker then runs `--engine-restart`.
    """

    ready: bool
    reason: str = ""
    crashed: bool = False


class Engine(Protocol):
    """Does the work of a job. An engine does one work at a time; the worker queues the others.

    With a field `parallel = True` it also does several works at one time (`worker --slots`).

    Register a factory in the entry point group `wakestream.engines`; `docs/engines/your-own.md` has an example.
    """

    async def describe(self) -> Sequence[Kind]:
        """Return the kinds that this engine can do.

        Asked regularly while the engine is ready and no work runs, since an engine may be changed while it runs.
        Raises `TaskFailed` when the engine does not answer.
        """

    async def ready(self) -> Readiness:
        """Return whether the engine can work, and the reason if it cannot. Asked regularly while no work runs."""

    def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """Do the work. Closing the generator only stops waiting, for example when the worker stops; see `cancel`.

        Args:
            work: The task. After a restart of the worker the same work may still run in the engine: an engine that can
                find it again follows it and does not start it twice.

        Yields:
            Progress, log lines, previews, and one `Made` for each output of `work.outputs`; several for a list. What is
            missing is not there for the job either, which fails only if nothing was made.

        Raises:
            TaskFailed: The engine failed; the message has its last output.
            WrongInput: An input or a parameter does not fit; the message names the field.
            EngineUnreachable: The engine does not answer; the worker does the work again when it is ready.
        """

    async def cancel(self, work: Work) -> None:
        """Stop exactly this work in the engine, whether it waits or runs there. Never stops another's work.

        Called when the work is no longer wanted, after the generator was closed. Does not raise.
        """

    async def close(self) -> None:
        """Release connections and processes. Called once, when the worker stops."""
