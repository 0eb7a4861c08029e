"""The values of parameters that a kind calls secret: beside the journals, only while a work needs them.

In a job, and in all that is written of it, a mark stands in the place of such a value.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.state_file import read_state
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.recording.secrets import REDACTED

FILE: Final = "secret-values.json"

MARK: Final = f"{REDACTED} "
"""What a mark begins with; a hash with a key of its own follows, so that equal values have equal marks."""


class _Kept(msgspec.Struct):
    key: str
    values: dict[str, Any] = {}
    v: int = 1


class SecretValues:
    """The values by their marks.

    Example:
        >>> values = SecretValues()
        >>> hidden = values.hide({"token": "abc", "steps": 5}, {"token"})
        >>> values.shown(hidden)
        {'token': 'abc', 'steps': 5}

    Args:
        path: The file in which they outlive the program; None: they do not.
    """

    def __init__(self, path: Path | None = None) -> None:
        fresh = _Kept(secrets.token_hex(16))
        self._path = path
        self._kept = fresh if path is None else read_state(path, msgspec.json.Decoder(_Kept).decode, fresh)
        hide(*map(str, self._kept.values.values()))

    def hide(self, params: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
        """Return the parameters with a mark for each of `names`; the values are on the disk then."""
        marked = self.marked(params, names)
        new = {marked[name]: params[name] for name in names if marked[name] != params[name]}
        hide(*map(str, new.values()))
        if new.keys() - self._kept.values.keys():
            self._kept.values |= new
            self._write()
        return marked

    def marked(self, params: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
        """Return the parameters as `hide` does, but keep nothing."""
        marks = {name: self._mark(params[name]) for name in names if not _is_mark(params[name])}
        return {**params, **marks}

    def shown(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters with the values in place of their marks. Raises `WrongInput` if one is gone."""
        for name, mark in params.items():
            if _is_mark(mark) and mark not in self._kept.values:
                why = "a secret value is not kept after the end of its job"
                raise WrongInput(f"params.{name}", f"params.{name}: {why}; submit the job again with the value")
        return {name: self._kept.values[value] if _is_mark(value) else value for name, value in params.items()}

    def keep(self, in_use: Iterable[Mapping[str, Any]]) -> None:
        """Remove all values but those of jobs with these parameters."""
        if self._kept.values:
            marks = {value for params in in_use for value in params.values() if _is_mark(value)}
            if gone := self._kept.values.keys() - marks:
                self._kept.values = {mark: value for mark, value in self._kept.values.items() if mark not in gone}
                self._write()

    def _mark(self, value: Any) -> str:
        digest = hashlib.blake2b(msgspec.json.encode(value), digest_size=16, key=self._kept.key.encode())
        return f"{MARK}{digest.hexdigest()}"

    def _write(self) -> None:
        if self._path is not None:
            write_atomic(self._path, msgspec.json.encode(self._kept))


def _is_mark(value: object) -> bool:
    return isinstance(value, str) and value.startswith(MARK)
