"""Facts as rows of text: the name of the class, and its fields as JSON.

A class that was renamed keeps its name in journals and logs: the class attribute `STORED_AS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, get_args

import msgspec

from wakestream.operators.model.errors import JournalError
from wakestream.streams.snapshot import path_from, plain_path

F = TypeVar("F")


class JournalRow(NamedTuple):
    """One fact as it is stored; `at` is set if it belongs to the ledger, too."""

    kind: str
    data: bytes
    at: float | None = None


class FactsJson(Generic[F]):
    """Converts facts to rows and back.

    Args:
        facts: A class of facts, or a union of classes.
        path: The journal's file or address, for error messages.
    """

    def __init__(self, facts: type[F], path: Path | str) -> None:
        kinds = get_args(facts) or (facts,)
        self._encode = msgspec.json.Encoder(enc_hook=plain_path).encode
        self._decoders: Mapping[str, Any] = {
            _name(kind): msgspec.json.Decoder(kind, dec_hook=path_from, strict=True) for kind in kinds
        }
        self._dated = {kind: getattr(kind, "LEDGER", False) for kind in kinds}
        self._path = path

    def row(self, fact: F) -> JournalRow:
        """Return a fact as a row. Fields: text, numbers, paths; lists, mappings, dataclasses, structs of them."""
        kind = type(fact)
        return JournalRow(_name(kind), self._encode(fact), getattr(fact, "at", None) if self._dated[kind] else None)

    def fact(self, row: JournalRow) -> F:
        """Return the fact of a row. Raises `JournalError` if the class is unknown or a field is missing."""
        decoder = self._decoders.get(row.kind)
        if decoder is None:
            raise self._unreadable(f"it holds a {row.kind!r}, which this version does not know")
        try:
            fact: F = decoder.decode(row.data)
        except msgspec.MsgspecError as error:
            raise self._unreadable(f"a {row.kind} in it cannot be read ({error})") from error
        return fact

    def plain(self, fact: F) -> dict[str, Any]:
        """Return a fact as a JSON object: its fields, and its class as `fact`."""
        return {"fact": _name(type(fact)), **msgspec.to_builtins(fact, enc_hook=plain_path)}

    def from_plain(self, plain: Mapping[str, Any]) -> F:
        """The reverse of `plain`."""
        return self.fact(JournalRow(str(plain["fact"]), msgspec.json.encode(plain)))

    def _unreadable(self, why: str) -> JournalError:
        return JournalError(
            f"{self._path} cannot be used: {why}; use the version of wakestream that wrote it, or restore a backup"
        )


def _name(kind: type) -> str:
    return str(getattr(kind, "STORED_AS", kind.__name__))
