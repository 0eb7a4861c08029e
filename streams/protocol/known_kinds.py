"""The kinds of all GPUs, as a worker sends its own to the hub and as a client gets them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import orjson

from wakestream.operators.model.engine import Kind
from wakestream.operators.model.errors import UnknownKind, WrongInput
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.kinds import (
    MAX_KIND,
    MAX_KINDS,
    MAX_KINDS_BYTES,
    check_bounds,
    check_kind_name,
    fingerprint,
    fitting,
    flat_kind,
    is_repeatable,
    kind_from,
    plain_kind,
)


def described(kinds: Sequence[Kind]) -> list[m.GpuKinds]:
    """Return the messages by which a worker tells the hub its kinds; one that says nothing if they are too much."""
    plain = [flat_kind(plain_kind(kind)) for kind in kinds]
    parts = [m.GpuKinds(number=number, of=len(plain), kind=kind) for number, kind in enumerate(plain, 1)]
    sizes = [len(orjson.dumps(part.kind)) for part in parts]
    fit = 0 < len(sizes) <= MAX_KINDS and max(sizes) <= MAX_KIND and sum(sizes) <= MAX_KINDS_BYTES
    return parts if fit else [m.GpuKinds()]


@dataclass(frozen=True, slots=True)
class GpuOfKind:
    """A GPU that has a kind, and whether it is online."""

    gpu: str
    online: bool


@dataclass(frozen=True, slots=True)
class KnownKind:
    """A kind and the GPUs that have it."""

    kind: Kind
    gpus: tuple[GpuOfKind, ...]


@dataclass(frozen=True, slots=True)
class KnownKinds:
    """What is known of the kinds of all GPUs.

    Attributes:
        kinds: The kinds, sorted by name. GPUs may have different kinds of the same name.
        known: Whether the hub tells its kinds; deployed ones do not.
        complete: Whether there are no other kinds: the kinds of all GPUs are known.
    """

    kinds: tuple[KnownKind, ...] = ()
    known: bool = False
    complete: bool = False

    def named(self, name: str, gpus: Collection[str] = ()) -> list[Kind]:
        """Return the kinds of this name, at these GPUs if some are named: none, one, or several that differ."""
        return [known.kind for known in self.kinds if known.kind.name == name and _at(known, gpus)]

    def gpus_for(self, name: str, check: Callable[[Kind], object], gpus: Collection[str] = ()) -> tuple[str, ...]:
        """Return the GPUs whose kind of this name `check` does not refuse; `gpus`, if the kinds do not differ."""
        if gpus or len(self.named(name)) < 2:
            return tuple(gpus)
        fit = [known for known in self.kinds if known.kind.name == name and _fits(known.kind, check)]
        return tuple(sorted({has.gpu for known in fit for has in known.gpus}))

    def check(
        self,
        kind: str,
        inputs: Mapping[str, str],
        params: Mapping[str, Any],
        outputs: Collection[str],
        *,
        gpus: Collection[str] = (),
        wake_to_ask: bool = False,
    ) -> tuple[str, ...]:
        """Check a job as far as the kinds are known.

        Args:
            kind: The kind's name.
            inputs: The ending of each input file by name.
            params: The parameters.
            outputs: The names of the outputs.
            gpus: The GPUs that were chosen for it.
            wake_to_ask: A GPU may be started to ask whether it has the kind.

        Returns:
            The GPUs that may do it: those that were chosen, or whose kind it fits if they have different kinds of that
            name; empty if any may.

        Raises:
            UnknownKind: No GPU is known to have the kind.
            WrongInput: Something does not fit; it names the field.
        """
        check_bounds(inputs, params, outputs)

        def fits(candidate: Kind) -> object:
            return fitting(candidate, inputs, params, outputs)

        self.first_fitting(kind, fits, gpus=gpus, wake_to_ask=wake_to_ask)
        return self.gpus_for(kind, fits, gpus)

    def first_fitting(
        self, kind: str, check: Callable[[Kind], object], *, gpus: Collection[str] = (), wake_to_ask: bool = False
    ) -> Kind | None:
        """Return the first kind of this name that `check` does not refuse; None if nothing is known of this name.

        Raises:
            UnknownKind: No GPU is known to have the kind, and none may be started to ask.
            WrongInput: What `check` raised for the first one, if it refused all.
        """
        check_kind_name(kind)
        kinds, faults = self.named(kind, gpus), []
        if not kinds and self.known and kind != LIPSYNC and not wake_to_ask:
            raise UnknownKind("kind", self._unknown(kind, gpus))
        for candidate in kinds:
            try:
                check(candidate)
            except WrongInput as error:
                faults.append(error)
            else:
                return candidate
        if faults:
            raise faults[0]
        return None

    def identity(self, kind: str, params: Mapping[str, Any], gpus: Collection[str] = ()) -> tuple[str, bool]:
        """Return what tells the work of this kind from that of an earlier version, and whether it may be repeated.

        Args:
            kind: The name of the kind.
            params: The parameters.
            gpus: The GPUs that may do the job; any, if it is empty.

        Returns:
            The fingerprint of all kinds of this name there, empty if none is known; False if two jobs with these
            parameters have results that differ.
        """
        kinds = self.named(kind, gpus)
        versions = sorted({fingerprint(version) for version in kinds})
        return "+".join(versions), all(is_repeatable(version, params) for version in kinds)

    def _unknown(self, kind: str, gpus: Collection[str]) -> str:
        if self.named(kind):
            others = {has.gpu for known in self.kinds if known.kind.name == kind for has in known.gpus}
            return (
                f"the GPU {', '.join(gpus)} is not known to have the kind {kind!r}; "
                f"known to have it: {', '.join(sorted(others))}"
            )
        names = [*dict.fromkeys([*(known.kind.name for known in self.kinds), LIPSYNC])]
        have, near = ", ".join(names), ", ".join(get_close_matches(kind, names))
        mean = f". Did you mean {near}?" if near else ""
        if self.complete:
            off = ", ".join(sorted({has.gpu for known in self.kinds for has in known.gpus if not has.online}))
            wake = f". The GPU {off} is off and tells new kinds when it starts: wakestream doctor --wake" if off else ""
            return f"there is no kind {kind!r}; there are {have}{mean or wake}"
        ask = f"{' ' if near else '. '}To start a GPU that has not told its kinds, give --wake-to-ask"
        return f"no GPU is known to have the kind {kind!r}; known are {have}{mean}{ask}"

    def plain(self) -> dict[str, Any]:
        """Return this as JSON, as in the daemon's `GET /api/kinds`."""
        kinds = [
            {"kind": plain_kind(known.kind), "gpus": [{"gpu": has.gpu, "online": has.online} for has in known.gpus]}
            for known in self.kinds
        ]
        return {"kinds": kinds, "known": self.known, "complete": self.complete}


UNKNOWN: Final = KnownKinds()
"""Nothing is known."""


def _at(known: KnownKind, gpus: Collection[str]) -> bool:
    return not gpus or any(has.gpu in gpus for has in known.gpus)


def _fits(kind: Kind, check: Callable[[Kind], object]) -> bool:
    try:
        check(kind)
    except WrongInput:
        return False
    return True


def from_plain(plain: Mapping[str, Any]) -> KnownKinds:
    """Return what `KnownKinds.plain` wrote.

    Raises:
        ValueError: It is something else.
    """
    entries = plain.get("kinds")
    if not isinstance(entries, list):
        raise ValueError("it has no list of kinds")  # noqa: TRY004 - the file is wrong, not a type
    return KnownKinds(_merged(entries), bool(plain.get("known")), bool(plain.get("complete")))


def from_frames(frames: Iterable[m.KindsResponse]) -> KnownKinds:
    """Return the kinds in all parts of a hub's answer. A description that cannot be read is left out."""
    parts = list(frames)
    entries = [entry for part in parts for entry in part.kinds]
    return KnownKinds(_merged(entries), known=True, complete=all(part.complete for part in parts))


def _merged(entries: Iterable[Any]) -> tuple[KnownKind, ...]:
    merged: dict[bytes, KnownKind] = {}
    for entry in entries:
        try:
            kind, gpus = kind_from(entry["kind"]), tuple(map(_gpu, entry["gpus"]))
        except (ValueError, TypeError, KeyError):
            continue
        key = orjson.dumps(plain_kind(kind), option=orjson.OPT_SORT_KEYS)
        merged[key] = KnownKind(kind, (*merged[key].gpus, *gpus) if key in merged else gpus)
    return tuple(sorted(merged.values(), key=lambda known: known.kind.name))


def _gpu(plain: Any) -> GpuOfKind:
    return GpuOfKind(str(plain["gpu"]), plain["online"] is True)
