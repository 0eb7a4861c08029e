"""Reads the values of settings. Each function raises `ValueError` with what to write instead."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wakestream.adapters.config import addresses
from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.config.setting_files import Secret
from wakestream.streams.placement import requirements
from wakestream.streams.protocol.printable import LONGEST_NAME, is_name

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMATS = ("text", "json")


def plain_text(value: object) -> str:
    """Text or a path, as text."""
    if not isinstance(value, str | Path):
        raise ValueError("must be text; write it in quotation marks")  # noqa: TRY004 - `load` catches ValueError only
    return str(value)


def path(value: object) -> Path:
    """A path; `~` is the home folder."""
    text = plain_text(value)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ValueError(f"is {text[:40]!r}; write a path without control characters")
    return Path(text).expanduser()


def _choice(known: Mapping[str, object], listed: str) -> Callable[[Any], object]:
    """Reads one of the words of `known`, in capitals or not."""

    def read(value: object) -> object:
        word = str(value).lower()
        if word not in known:
            raise ValueError(f"is {str(value)[:40]!r}; write {listed}")
        return known[word]

    return read


level = _choice({level.lower(): level for level in LEVELS}, f"one of {', '.join(LEVELS)}")
log_format = _choice({form: form for form in FORMATS}, f"one of {', '.join(FORMATS)}")
yes = _choice({"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}, "true or false")


def gpu_name(value: object) -> str:
    """The name of a GPU."""
    if not is_name(plain_text(value)):
        raise ValueError(f"must have 1 to {LONGEST_NAME} printable characters, without blanks at its ends")
    return plain_text(value)


def listen_address(value: object) -> tuple[str, int]:
    """`HOST:PORT`."""
    return addresses.listen_address(plain_text(value))


def webhook(value: object) -> Secret:
    """The address of a webhook, which is a secret."""
    return Secret(addresses.webhook_url(plain_text(value)))


def hosts(value: object) -> tuple[str, ...]:
    """Hosts, as a list or separated by commas or blanks."""
    return addresses.hosts(",".join(map(plain_text, value)) if isinstance(value, list) else plain_text(value))


def labels(value: object) -> Mapping[str, str]:
    """`NAME=VALUE` words, which become the labels of a GPU."""
    words = map(plain_text, _words(value))
    by_name = options([word if "=" in word else f"{word}=" for word in words])
    if (fault := requirements.misfit(by_name, None)) is not None:
        raise ValueError(f"cannot be used: {fault}")
    return by_name


def slots(value: object) -> int:
    """How many tasks a worker does at one time."""
    number = whole_number(str(value), 1, requirements.MAX_SLOTS)
    if number is None:
        raise ValueError(f"is {str(value)[:40]!r}; write a whole number from 1 to {requirements.MAX_SLOTS}")
    return number


def _words(value: object) -> list[Any]:
    return value if isinstance(value, list) else _split_command(plain_text(value))  # type: ignore[return-value] # or refused


def options(value: object) -> Mapping[str, str]:
    """`KEY=VALUE` words, as a list or on one line."""
    words = _words(value)
    pairs = [str(word).partition("=") for word in words]
    wrong = next((name + separator for name, separator, _ in pairs if not name.strip() or not separator), None)
    if wrong is not None:
        raise ValueError(f"is {wrong[:40]!r}; write NAME=VALUE, such as region=cn-wlcb or url=http://127.0.0.1:8188")
    return {name.strip(): text for name, _, text in pairs}


_FOR_EXAMPLE = 'write for example ["python", "start.py"]'


def command_line(value: object) -> tuple[str, ...]:
    """An argument list, from a list or a command line."""
    if isinstance(value, str):
        try:
            value = _split_command(value)
        except ValueError as error:
            raise ValueError(f"is not a command line ({error}); {_FOR_EXAMPLE}") from None
    if not isinstance(value, list | tuple) or not value or not all(isinstance(part, str) and part for part in value):
        raise ValueError(f"must be a command line; {_FOR_EXAMPLE}")
    return tuple(value)


def _split_command(text: str) -> object:
    import json
    import shlex

    if text.lstrip().startswith("["):  # JSON means the same on every system
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
    if os.name == "posix":
        return shlex.split(text)
    words = shlex.shlex(text, posix=True)  # posix=True removes quotation marks
    words.whitespace_split, words.commenters = True, ""
    words.escape, words.quotes = "", '"'  # on Windows a backslash is part of a path, and an apostrophe is a letter
    return list(words)


def worker_url(value: object) -> str:
    """A worker's address."""
    return addresses.worker_url(plain_text(value))
