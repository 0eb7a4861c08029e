"""Uploads of the page: streamed to disk, limited by a quota, and removed when no longer needed.

Each has a folder of its own and a name that we choose; the user's name for it is stored beside it, for display only.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from wakestream.adapters.config import units
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.upload_validation import Announced, Kind, Media, fitting_ending, likely_ending
from wakestream.adapters.disk.atomic import write_all
from wakestream.adapters.disk.full_disk import is_full
from wakestream.adapters.engines.probe import MediaUnusable
from wakestream.operators.model.events import LIPSYNC

QUOTA: Final = 10 * 10**9
"""Bytes that all files of the page may take, including results."""

SPARE: Final = 500 * 10**6
"""Bytes of the disk that stay free."""

BEGIN_WITHIN: Final = 120.0
"""Seconds from the announcement of an upload to its first byte."""

SILENCE: Final = 60.0
"""Seconds without a byte after which an upload fails."""

FILES_MOST: Final = 2000

SHARE: Final = 0.75
"""The part of the bytes and of the files that those of one program may take."""

_BLOCK = 1024 * 1024
_STORED = ("id", "kind", "name", "size", "at", "seconds", "slot", "accepts", "source")
_bytes = functools.partial(units.size, byte="bytes")


@dataclass(slots=True)
class UploadedFile:
    """One file."""

    id: str
    kind: Kind
    name: str
    """The user's name for it."""
    size: int
    """The announced bytes; of a URL 0 until it is opened; of a file of the API for programs the bytes that arrived."""
    at: float
    """UNIX seconds."""
    path: Path
    complete: bool = False
    seconds: float = 0.0
    """Its length; 0 if it is not known."""
    slot: str = ""
    """The place in the form that it was chosen for."""
    accepts: tuple[str, ...] = ()
    """The media types and file endings that fit there."""
    source: str = ""
    """The path or URL that the daemon copies it from, if there is one."""
    more: dict[str, Any] = field(default_factory=dict)
    """What the API for programs keeps of its own files."""
    busy: bool = field(default=False, repr=False)
    """Whether it arrives at present, or waits for its turn."""
    sent: int = field(default=0, repr=False)
    """The bytes that have arrived."""
    whole: int = field(default=0, repr=False)
    """How large a file of the API for programs may become; else 0."""

    @property
    def shown_size(self) -> int:
        """The bytes that it has when it is complete."""
        return max(self.whole, self.size)

    @property
    def owner(self) -> str:
        """The program whose file it is; empty: the user's."""
        return str(self.more.get("token", ""))

    def plain(self) -> dict[str, Any]:
        """For the page."""
        return {
            "id": self.id, "kind": self.kind, "name": self.name, "size": self.shown_size,
            "seconds": self.seconds or None, "complete": self.complete, "slot": self.slot or f"{LIPSYNC}.{self.kind}",
        }  # fmt: skip


Look = Callable[[Path, Media], Awaitable[float | None]]


async def unlooked(_: Path, __: Media) -> None:
    """The `Look` that checks nothing."""


class Uploads:
    """The files in `folder`. `needed()` are the paths that unfinished jobs read, `extra()` the bytes of results.

    `look` returns the length of a complete file, or refuses it.
    """

    def __init__(
        self,
        folder: Path,
        needed: Callable[[], Collection[str]],
        extra: Callable[[], int],
        quota: int = QUOTA,
        look: Look = unlooked,
    ) -> None:
        self._folder, self._needed, self._extra, self.quota = folder, needed, extra, quota
        self.look = look
        self._known: dict[str, UploadedFile] = {}
        self._by_path: dict[str, UploadedFile] = {}
        self._moved = 0.0  # when a file was last complete
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            self._take_up(path)

    def _take_up(self, folder: Path) -> None:
        """Take over an upload of an earlier run; an incomplete one is removed."""
        try:
            plain = orjson.loads((folder / "about.json").read_bytes())
            upload = _of_about(plain, folder)
            upload.complete = upload.path.stat().st_size == upload.size
        except (OSError, ValueError, TypeError, KeyError):
            upload = None
        if upload is None or not upload.complete:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            self._know(upload)

    def _know(self, upload: UploadedFile) -> None:
        self._known[upload.id] = upload
        self._by_path[str(upload.path)] = upload

    @property
    def used(self) -> int:
        """Bytes of all files, including announced ones."""
        return sum(upload.size for upload in self._known.values()) + self._extra()

    def of_path(self, path: str) -> UploadedFile | None:
        """The upload with this path."""
        return self._by_path.get(path)

    def idle(self, referred: Collection[str]) -> list[UploadedFile]:
        """Complete files that no job uses."""
        return [file for file in self._known.values() if file.complete and str(file.path) not in referred]

    def of_programs(self) -> list[UploadedFile]:
        """The complete files of the API for programs."""
        return [file for file in self._known.values() if file.complete and file.more]

    def knows(self, upload: UploadedFile) -> bool:
        """Whether this upload is here or still expected."""
        return self._known.get(upload.id) is upload

    def get(self, id_: object, *, complete: bool = True) -> UploadedFile:
        """An upload by its id, a complete one unless the file may still be copied; `ApiError` if it does not exist."""
        upload = self._known.get(id_) if isinstance(id_, str) else None
        if upload is None or (complete and not upload.complete):
            raise ApiError(404, "unknown_upload", "this file is gone; choose it again")
        return upload

    def announce(
        self, asked: Announced, referred: Collection[str], source: str = "", more: dict[str, Any] | None = None
    ) -> UploadedFile:
        """Reserve space for a file before it is sent. Raises `ApiError` when it cannot be accepted.

        A file whose `source` is not open yet may have the size 0, and gets its space by `measure`.
        """
        self._sweep()
        self._check_share((more or {}).get("token", ""), asked.size, referred)
        if asked.size or not source:
            ending = self._admitted(asked, referred)
        else:
            self._check_number(())
            ending = likely_ending(asked)
        upload = UploadedFile(
            secrets.token_hex(8), asked.kind, asked.name, asked.size, time.time(), Path(),
            slot=asked.slot, accepts=asked.accepts, source=source, more=more or {},
        )  # fmt: skip
        upload.path = self._folder / upload.id / f"{asked.kind}{ending}"
        self._know(upload)
        return upload

    def _admitted(self, asked: Announced, referred: Collection[str], sent: int = 0) -> str:
        """The ending of a file for which there is space now; so much of it was `sent`."""
        ending = fitting_ending(asked)
        if asked.size <= 0:
            raise ApiError(400, "empty", "the file is empty (0 bytes); choose another one")
        self._make_room(asked.size, referred, sent)
        return ending

    def measure(self, upload: UploadedFile, name: str, size: int, referred: Collection[str]) -> None:
        """Reserve space for an announced file whose source is open now. `ApiError` when it cannot be accepted."""
        self._forget(upload)
        try:
            self._check_share(upload.owner, size, referred)
            asked = Announced(upload.kind, name, size, upload.accepts, upload.slot)
            ending = self._admitted(asked, referred, upload.sent)
            upload.name, upload.size, upload.path = name, size, upload.path.with_name(f"{upload.kind}{ending}")
        finally:
            self._know(upload)

    def restored(self, plain: dict[str, Any], *, expected: bool) -> UploadedFile:
        """The upload of a job that waits since an earlier run (see `about`). If it is `expected`, its copy follows."""
        known = self._known.get(plain["id"])
        if known is None:
            known = _of_about(plain, self._folder / Path(plain["id"]).name)
            known.busy = expected
            if expected:
                self._know(known)
        return known

    def expect_only(self, referred: Collection[str]) -> None:
        """Forget the `restored` files that no job refers to."""
        for file in [file for file in self._known.values() if not file.complete and str(file.path) not in referred]:
            self._forget(file)

    def check_quota(self, size: int) -> None:
        """`ApiError` if a file has more bytes than all together may have."""
        if size > self.quota:
            why = f"the file is {_bytes(size)}, the limit of the console is {_bytes(self.quota)}"
            raise ApiError(413, "quota", f"{why}; `wakestream submit` has no limit", size=size, most=self.quota)

    def _make_room(self, size: int, referred: Collection[str], sent: int) -> None:
        self.check_quota(size)
        used = self.used  # computed once, since it reads the sizes of all results
        # The oldest files that no unfinished job needs, for the bytes and for the limit of files.
        too_much, needed, going = used + size - self.quota, set(self._needed()), list[UploadedFile]()
        for old in sorted(self._known.values(), key=lambda upload: upload.at):
            if too_much <= 0 and len(self._known) - len(going) < FILES_MOST:
                break
            if old.complete and not _stays(old, referred, needed):
                going.append(old)
                too_much -= old.size
        freed = sum(old.size for old in going)
        self._check_number(going)
        room = max(0, self.quota - used + freed)
        if size > room:
            why = f"the file is {_bytes(size)}, but only {_bytes(room)} of {_bytes(self.quota)} are free; remove "
            why += "results that you no longer need"
            raise ApiError(413, "full", why, size=size, room=room, most=self.quota)
        free = max(0, shutil.disk_usage(self._folder).free + freed + sent - SPARE)
        if size > free:
            why = f"the file is {_bytes(size)}, but the disk has only {_bytes(free)} left; free some space"
            raise ApiError(507, "no_space", why, size=size, room=free)
        for old in going:
            self.remove(old)

    def _check_number(self, going: Collection[UploadedFile]) -> None:
        if len(self._known) - len(going) >= FILES_MOST:
            why = f"the limit of {FILES_MOST} files is reached; wait until some jobs have ended"
            raise ApiError(413, "many_files", why, count=FILES_MOST)

    def _check_share(self, owner: str, size: int, referred: Collection[str]) -> None:
        """`ApiError` if the files of a program would leave no space for others. Those that make room do not count."""
        needed = set(self._needed()) if owner else ()
        mine = [file.size for file in self._known.values() if file.owner == owner and _stays(file, referred, needed)]
        files, most = int(SHARE * FILES_MOST), int(SHARE * self.quota)
        if owner and (len(mine) >= files or sum(mine) + size > most):
            why = f"a token may have {files} files, with {_bytes(most)} of {_bytes(self.quota)}; remove some of them"
            raise ApiError(413, "share", why, count=files, most=most)

    def _sweep(self) -> None:
        """Remove what was announced and did not begin. Files of waiting jobs come one after the other: while one of
        them is copied, the others may begin later."""
        late, expected = time.time() - BEGIN_WITHIN, frozenset[str]()
        if self._moved >= late or any(file.busy for file in self._known.values()):
            expected = frozenset(self._needed())
        for upload in [file for file in self._known.values() if not file.complete and not file.busy and file.at < late]:
            if str(upload.path) not in expected:
                self.remove(upload)

    async def receive(self, id_: str, chunks: AsyncIterator[bytes]) -> UploadedFile:
        """Receive the bytes of an announced file. After an error the file is removed."""
        upload = self._known.get(id_)
        if upload is None or upload.complete or upload.busy:
            raise ApiError(404, "unknown_upload", "this upload was not announced, or started too late; try again")
        upload.busy = True
        try:
            await self._write(upload, chunks)
        except BaseException as error:
            await asyncio.shield(self.discard(upload))
            if isinstance(error, ConnectionError | TimeoutError):
                raise ApiError(400, "broken", "the upload was interrupted; choose the file again") from None
            if isinstance(error, MediaUnusable):
                raise ApiError(415, f"media_{error.fault}", str(error), kind=error.which) from None
            if isinstance(error, OSError):
                raise of_disk(error) from None
            raise
        upload.busy, upload.complete = False, True
        self._moved = time.time()
        return upload

    async def _write(self, upload: UploadedFile, chunks: AsyncIterator[bytes]) -> None:
        folder = upload.path.parent
        folder.mkdir(mode=0o700)
        written, waiting = 0, bytearray()
        with upload.path.open("xb", buffering=0) as file:
            while True:
                async with asyncio.timeout(SILENCE):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                waiting += chunk
                written += len(chunk)
                upload.sent = written
                if written > upload.size:
                    raise ApiError(400, "other_size", "the file grew during the upload; choose it again")
                if len(waiting) >= _BLOCK:
                    block, waiting = waiting, bytearray()
                    await asyncio.to_thread(write_all, file, block)
            await asyncio.to_thread(write_all, file, waiting)
        if written != upload.size:
            raise ApiError(400, "other_size", "the file did not arrive completely; choose it again")
        if upload.kind != "file":
            upload.seconds = await self.look(upload.path, upload.kind) or 0.0
        self.keep(upload)

    def keep(self, upload: UploadedFile) -> None:
        """Store what is known of a file. `ApiError` when that fails."""
        keep_file(upload.path.with_name("about.json"), orjson.dumps(about(upload)))

    def remove(self, upload: UploadedFile) -> None:
        """Remove a file."""
        self._forget(upload)
        shutil.rmtree(upload.path.parent, ignore_errors=True)

    async def discard(self, upload: UploadedFile) -> None:
        """As `remove`, in a thread, since it takes long for large files."""
        self._forget(upload)
        await asyncio.to_thread(shutil.rmtree, upload.path.parent, ignore_errors=True)

    def _forget(self, upload: UploadedFile) -> None:
        self._known.pop(upload.id, None)
        self._by_path.pop(str(upload.path), None)


def _stays(upload: UploadedFile, referred: Collection[str], needed: Collection[str]) -> bool:
    """Whether it makes no room for others: no job uses it yet, or one that has not ended needs it."""
    return str(upload.path) not in referred or str(upload.path) in needed


def about(upload: UploadedFile) -> dict[str, Any]:
    """An upload as it is stored."""
    more = {"more": upload.more} if upload.more else {}  # earlier versions know no such field
    return {**{name: getattr(upload, name) for name in _STORED}, **more, "file": upload.path.name}


def _of_about(plain: dict[str, Any], folder: Path) -> UploadedFile:
    """The upload of what `about` gave, without the fields of later versions."""
    known = {name: plain[name] for name in (*_STORED, "more") if name in plain}
    known["accepts"] = tuple(plain.get("accepts", ()))
    return UploadedFile(**known, path=folder / Path(plain["file"]).name)


def remove_result(path: Path) -> None:
    """Remove a result that may be missing; `ApiError` when that fails, as on Windows while it is played."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError as error:
        why = f"the result is in use or cannot be removed ({error.strerror}); close its player and retry"
        raise ApiError(409, "in_use", why) from None
    except OSError as error:
        raise of_disk(error) from None


def keep_file(path: Path, data: bytes) -> None:
    """Write a small file; `ApiError` when that fails."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise of_disk(error) from None


def of_disk(error: OSError) -> ApiError:
    """The refusal for an error of the disk."""
    if is_full(error):
        return ApiError(507, "no_space", "the disk is full; free some space, then choose the file again")
    return ApiError(500, "disk", f"the file cannot be written: {error.strerror or error}")
