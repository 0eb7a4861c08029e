"""Reads settings files: `.env`, `config.dat`, `wakestream.toml`, and key files. Every error names file and line."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from wakestream.operators.model.errors import WakestreamError

MAX_FILE = 1024 * 1024
"""Largest settings file in bytes; a larger one is not a settings file."""

MAX_KEY = 512
"""Longest key in characters."""

SHORT = 16
"""A shorter secret or key causes a warning."""

VARIABLES = frozenset({
    "WAKESTREAM_KEY", "HEYGEM_API_SECRET", "WAKESTREAM_WEBHOOK_SECRET", "WAKESTREAM_GRADIO_AUTH",
    "WAKESTREAM_OPENAI_KEY",
})  # fmt: skip
"""Environment variables that hold a secret."""


class SettingsError(WakestreamError):
    """A setting is missing or wrong; the message names its source and says what to write."""

    code = "settings"


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Name the place of a wrong value, such as `--listen`: a `ValueError` becomes a `SettingsError`."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(f"{place} {error}") from None


class Secret(str):
    """A string whose `repr` is hidden, so that dataclasses, tracebacks and logs do not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"


class Source(NamedTuple):
    """Where a setting comes from.

    Attributes:
        rank: How far it is trusted; 0 is trusted most (see `config.trust`).
        folder: The folder of its files, where several sources have the same rank.
    """

    rank: int
    folder: str = ""


FLAG = Source(0)


@dataclass(frozen=True, slots=True)
class Given:
    """A value and its place, such as `.env line 3 (API_SERVER_URL)`."""

    value: object
    where: str
    source: Source = FLAG


def read_env(path: Path) -> dict[str, Given]:
    """The variables in `.env`, with `$` as text; empty without a file. `SettingsError` names the first bad line."""
    text = _text(path)
    return dict(_bindings(path, text)) if text else {}


def read_config(path: Path) -> dict[str, Given]:
    """The settings in the deployed client's `config.dat`: `NAME=value`; quotation marks are part of the value.

    Other programs have files of this name, so a file that is not text, and a line without `=`, is skipped.
    """
    try:
        text = _text(path)
    except SettingsError:
        return {}
    settings: dict[str, Given] = {}
    for number, line in enumerate((text or "").split("\n"), 1):
        name, is_setting, value = (part.strip() for part in line.partition("="))
        if is_setting and not name.startswith("#"):
            settings[name] = Given(value, f"{path} line {number} ({name})")
    return settings


def _bindings(path: Path, text: str) -> Iterator[tuple[str, Given]]:
    import io

    from dotenv.parser import parse_stream

    for binding in parse_stream(io.StringIO(text)):
        # The parser counts blank lines and comments before a binding as part of it.
        blank = re.match(r"(?:[^\S\n]*\n)*", binding.original.string)
        line = binding.original.line + (blank.group().count("\n") if blank else 0)
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(f"{path} line {line}: not of the form NAME=value; correct the line or put # before it")
        if binding.key is not None:
            yield binding.key, Given(binding.value, f"{path} line {line} ({binding.key})")


def read_toml(path: Path) -> dict[str, Given]:
    """The settings in `wakestream.toml`, empty without a file. `[power] start` is named `power_start`."""
    import tomllib

    text = _text(path)
    if not text:
        return {}
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"{path} is nested too deeply; write settings as in docs/reference.md") from None
    return {name: Given(value, _toml_place(path, text, key)) for name, key, value in _flat(document)}


def toml_text(value: object) -> str:
    """A value or a quoted name as TOML writes it: as JSON does, but for one control character.

    Raises:
        SettingsError: It holds half a character, as the names of files may, which no file in UTF-8 can hold.
    """
    try:
        return orjson.dumps(value).decode().replace("\x7f", "\\u007f")
    except orjson.JSONEncodeError:
        raise SettingsError(f"{value!r:.200} is not valid Unicode, so no settings file can hold it") from None


def _flat(document: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from ((key if inner == "name" else f"{key}_{inner}", inner, item) for inner, item in value.items())
        else:
            yield key, key, value


def _toml_place(path: Path, text: str, key: str) -> str:
    match = re.search(rf"^[ \t]*['\"]?{re.escape(key)}['\"]?[ \t]*=", text, re.MULTILINE)
    line = f" line {text.count(chr(10), 0, match.start()) + 1}" if match else ""
    return f"{path}{line} ({key})"


def secret(value: object) -> Secret:
    """A secret that the programs share."""
    text = str(value).strip()
    if not text.isascii() or not text.isprintable():
        raise ValueError("must have printable ASCII characters only, as it is sent in an HTTP header")
    if not text:
        raise ValueError(f"is blank; set a secret of {SHORT} characters or more, or remove the setting")
    return Secret(text)


def key(value: object) -> Secret:
    """A key; the error does not show it."""
    text = str(value).strip()
    if not text:
        raise ValueError("contains no key; put the key into it that `wakestream license issue` printed")
    if len(text) > MAX_KEY or not text.isascii() or not text.isprintable() or " " in text:
        one_word = f"one word of at most {MAX_KEY} ASCII characters"
        raise ValueError(f'is not a key ({one_word}); write the bare key, or {{"license_key": "…"}}')
    return Secret(text)


def key_in(path: Path, where: str, warnings: list[str]) -> Secret:
    """The key in a key file, bare or as `{"license_key": "…"}`; `where` is the setting that names the file."""
    text = _text(path)
    if text is None:
        raise SettingsError(f"{where} names {path}, which does not exist; give the file that holds the key")
    if os.name == "posix" and path.stat().st_mode & stat.S_IROTH:
        warnings.append(f"{path} contains a key and every account on this machine can read it; run: chmod 600 {path}")
    with naming(str(path)):
        return key(_license(text, path))


def read_keys(path: Path | None) -> list[Secret]:
    """The keys in a file or, without a path, on standard input: one per line, or one as `{"license_key": "…"}`."""
    where = path or Path("standard input")
    text = _text(path) if path is not None else _decoded(sys.stdin.buffer.read(MAX_FILE), where)
    if text is None:
        raise SettingsError("this file does not exist; give a file that contains the keys, not a key itself")
    keys = [_license(text, where)] if text.lstrip().startswith("{") else text.splitlines()
    secrets = [Secret(key.strip()) for key in keys if key.strip()]
    if not secrets:
        raise SettingsError(f"{where} contains no key; write one key per line")
    return secrets


def _license(text: str, path: Path) -> str:
    import json

    if not text.lstrip().startswith("{"):
        return text
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SettingsError(f'{path}{place}: broken JSON; write {{"license_key": "…"}} or the bare key') from None
    key = document.get("license_key")
    if not isinstance(key, str):
        raise SettingsError(f'{path}: has no text for "license_key"; write {{"license_key": "…"}} or the bare key')
    return key


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        if os.path.isdir(path):  # noqa: PTH112 - each system has another error for folders; isdir raises none
            raise SettingsError(f"{path} is a folder; give a file") from None
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from None
    if len(raw) > MAX_FILE:
        raise SettingsError(f"{path} has more than {MAX_FILE} bytes, so it is not a settings file; give another")
    return _decoded(raw, path)


def _decoded(raw: bytes, path: Path) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path} line {line}: not UTF-8 text; save the file as UTF-8") from None
    if "\0" in text:
        raise SettingsError(f"{path} is a binary file; save it as a text file in UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")
