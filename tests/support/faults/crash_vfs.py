"""A disk in memory that loses power: an SQLite VFS on which only what was synced is sure to outlast a crash.

Every write, truncation, sync and deletion is a numbered step. A `Trouble` happens at a step: the power goes (that step
and all later ones fail, `after_crash` says what a reader then finds), the step fails once (an I/O error), or the disk
is full for a while. What was written and not synced may be lost or kept, sector by sector, as real disks do.
"""

import itertools
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import apsw

SECTOR = 512
Kind = Literal["none", "crash", "error", "full"]

_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens at step `at` (the first is 1); `full` lasts for `steps` writes, `error` for one step.

    `only` restricts it to steps whose kind ends so: "sync", "write", "wal write".
    """

    kind: Kind = "none"
    at: int = 0
    steps: int = 1
    only: str | None = None


@dataclass(slots=True)
class _Image:
    """One file: as it was when it was last synced, as it reads now, and what was written in between."""

    durable: bytearray = field(default_factory=bytearray)
    now: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)
    linked: bool = False  # whether its name outlasts a crash

    def write(self, data: bytes, offset: int) -> None:
        _write(self.now, data, offset)
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        del self.now[size:]
        self.pending.append(size)

    def sync(self) -> None:
        self.durable, self.pending, self.linked = bytearray(self.now), [], True

    def crashed(self, random: Random | None) -> bytearray:
        """What a crash leaves. Without `random` only what was synced; with it, any sector of the rest may be there."""
        left = bytearray(self.durable)
        for change in self.pending if random is not None else ():
            assert random is not None
            if isinstance(change, int):
                if random.random() < 0.5:
                    del left[change:]
                continue
            offset, data = change
            for start in range(0, len(data), SECTOR):
                if random.random() < 0.5:
                    _write(left, data[start : start + SECTOR], offset + start)
        return left


def _write(into: bytearray, data: bytes, offset: int) -> None:
    if len(into) < offset:
        into.extend(bytes(offset - len(into)))
    into[offset : offset + len(data)] = data


class FrailDisk(apsw.VFS):
    """Register one, give its `name` to SQLite. `counted` is how many steps its trouble could have come at."""

    def __init__(self, trouble: Trouble | None = None, files: dict[str, bytearray] | None = None) -> None:
        self.name = f"frail-{next(_names)}"
        self.trouble = trouble or Trouble()
        self.files: dict[str, _Image] = {}
        for name, data in (files or {}).items():
            self.files[name] = _Image(bytearray(data), bytearray(data), linked=True)
        self.steps = 0
        self.counted = 0
        self.dead = False
        super().__init__(self.name, "")

    def step(self, kind: str) -> None:
        """One thing that a disk does; raises what the trouble makes of it."""
        if self.dead:
            raise apsw.IOError("the power is gone")
        self.steps += 1
        trouble = self.trouble
        if trouble.kind == "none" or (trouble.only is not None and not kind.endswith(trouble.only)):
            return
        self.counted += 1
        if trouble.kind == "crash" and self.counted >= trouble.at:
            self.dead = True
            raise apsw.IOError("the power goes")
        if trouble.kind == "error" and self.counted == trouble.at:
            raise apsw.IOError("the disk cannot do this")
        if (
            trouble.kind == "full"
            and kind.endswith("write")
            and trouble.at <= self.counted < trouble.at + trouble.steps
        ):
            raise apsw.FullError("the disk is full")

    def after_crash(self, random: Random | None = None) -> dict[str, bytearray]:
        """The files that remain after the power loss."""
        kept = {}
        for name, image in self.files.items():
            if image.linked or (random is not None and random.random() < 0.5):
                kept[name] = image.crashed(random)
        return kept

    def as_it_is(self) -> dict[str, bytearray]:
        """The files as they read: what is there when only the program was killed."""
        return {name: bytearray(image.now) for name, image in self.files.items()}

    # SQLite's side

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        text = name.filename() if isinstance(name, apsw.URIFilename) else name or f"temp-{self.steps}"
        if text not in self.files:
            if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise apsw.CantOpenError("no such file")
            self.files[text] = _Image()
        flags[1] = flags[0]
        return _File(self, self.files[text], "wal " if text.endswith("-wal") else "")

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.step("delete")
        self.files.pop(filename, None)

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return pathname in self.files

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name


class _File:
    """An open file of a frail disk."""

    def __init__(self, disk: FrailDisk, image: _Image, kind: str) -> None:
        self.disk, self.image, self.kind = disk, image, kind

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if self.disk.dead:
            raise apsw.IOError("the power is gone")
        return bytes(self.image.now[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.step(self.kind + "write")
        self.image.write(bytes(data), offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.disk.step(self.kind + "truncate")
        self.image.truncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.disk.step(self.kind + "sync")
        self.image.sync()

    def xFileSize(self) -> int:  # noqa: N802
        return len(self.image.now)

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0

    def xClose(self) -> None:  # noqa: N802
        pass
