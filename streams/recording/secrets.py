"""What is a secret, by its name and by its form: one list for recordings, logs, error messages and JSON.

The forms follow the plugins of detect-secrets, which itself is too heavy here: it needs requests and PyYAML, and it
searches lines of files, not values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Final

REDACTED: Final = "[redacted]"

DEEPEST: Final = 100
"""Levels of JSON that are searched. Parsers let more pass than Python functions can call each other."""

SECRET_FIELDS: Final = frozenset({
    "key", "token", "license_key", "authorization", "api_secret", "secret", "password", "access_token", "api_key",
    "heygem_api_secret", "capability",
})  # fmt: skip
"""Fields whose values are always removed, whatever they are. `is_secret_name` knows further names of texts."""

_NOUNS: Final = frozenset({
    "authorization", "bearer", "capability", "cookie", "cookies", "credential", "credentials", "creds", "csrf", "dsn",
    "jwt", "key", "otp", "pass", "passcode", "passphrase", "passwd", "password", "passwords", "pin", "pwd", "secret",
    "secrets", "sig", "signature", "token", "xsrf",
})  # fmt: skip
_WHOLE: Final = (
    "password", "passwd", "passphrase", "passcode", "secret", "token", "credential", "credentials", "cookie",
    "signature", "apikey", "accesskey", "authkey", "clientkey", "licensekey", "privatekey", "secretkey", "servicekey",
    "sessionkey", "signingkey", "accountkey", "masterkey", "encryptionkey", "webhookurl", "connectionstring",
    "sessionid",
)  # fmt: skip
"""How names end, also without separators."""

_PUBLIC_KEYS: Final = frozenset({
    "cache", "capability", "foreign", "group", "host", "idempotency", "index", "object", "partition", "path", "primary",
    "public", "row", "shard", "sort", "unique",
})  # fmt: skip
"""What stands before `key` in names of keys that are no secrets. The capability key of the wire is a public key."""

_SUFFIXES: Final = frozenset({"value", "text", "pem", "raw", "string", "base64", "b64", "hex", "plain", "header"})
_ALONE: Final = frozenset({"auth", "pairing", "session", "ticket"})
"""Names that are secrets if they are the whole name; the daemon's tickets in recordings are numbers, and stay."""

_IN_ADDRESSES: Final = frozenset({"code", "link"})
"""Names that are secrets in the query or the fragment of an address only."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@lru_cache(4096)
def is_secret_name(name: str) -> bool:
    """Whether a field, variable, header or parameter of this name holds a secret.

    Example:
        >>> is_secret_name("X-Amz-Signature"), is_secret_name("token_type")
        (True, False)
    """
    words = [word.lower() for word in _WORDS.findall(name[:200])]
    if "".join(words).endswith(_WHOLE) or name.lower() in _ALONE:
        return True
    while len(words) > 1 and (words[-1] in _SUFFIXES or words[-1].isdigit()):
        words.pop()
    if not words:
        return False
    if words[-1] == "key":
        return len(words) == 1 or words[-2] not in _PUBLIC_KEYS
    return words[-1] in _NOUNS or "".join(words).endswith(_WHOLE)


_FORMS: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    r"|\bws_[A-Za-z]+_[A-Za-z0-9_-]{16,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
    r"|\bwhsec_[A-Za-z0-9+/=_-]{8,}"
    r"|\b[srp]k_(?:live|test)_[A-Za-z0-9]{8,}|\bsk-[A-Za-z0-9_-]{16,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{16,}"
    r"|\bxox[a-z]-[A-Za-z0-9-]{10,}|\bhf_[A-Za-z0-9]{20,}|\br8_[A-Za-z0-9]{20,}|\brpa_[A-Za-z0-9]{20,}"
    r"|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{32,}|\bSG\.[\w-]{16,}\.[\w-]{16,}|\b\d{8,10}:AA[\w-]{32,}"
)
_SCHEMES = re.compile(r"(?i:\b(bearer|basic|negotiate)\b)(\s+)(?!\[redacted\]|\*\*\*)([^\s'\",;\\]+)")
_HEADERS = re.compile(
    r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(\\?[\"']?\s*[:=]\s*\\?[\"']?(?:(?:bearer|basic|digest|token)\s+)?)"
    r"([^\"'\\\r\n]+)"
)
_USER = re.compile(
    r"(//|(?<![\w/@.:+%~-])(?!mailto:|sip:|acct:))"
    r"([\w.%+~-]{0,64}:[^\s@/?#\"'<>]{1,128}|(?<=//)[\w.%+~-]{12,128})@(?=[\w\[])"
)
_NAMES = re.compile(
    r"(?:(?<![A-Za-z0-9_.-])-{0,2}|(?<=%3F)|(?<=%26)|(?<=%23))([A-Za-z_][\w.-]*)"
    # `NAME= word` is a sentence about NAME: only `=` after a space may have one behind it.
    r"(\\?[\"']?\s?(?:(?<=\s)=\s?|=|:\s?|%3[Dd])|(?<=\w)[ \t]+(?=[^\s-]))"
)
_VALUE = re.compile(r"(\\?[\"'])([^\"'\\\r\n]+)|((?:[^\s\"'\\&;,)}\]>#%]|%(?!26))+)")
_SHELL_VALUE = re.compile(r"(\\?[\"'])((?:(?!\1)(?:\\.|[^\\\r\n]))+)|((?:\\[^\"'nrtu\r\n]|[^\s\"'\\])+)")
"""Of a variable such as `NAME_KEY=`: it ends at a space or a quote; in JSON also at an escaped one."""

_TRIGGER = re.compile(r"[=@:]|%3[Dd]|--\w|(?i:bearer|basic|negotiate)\s|[_.-]\w{8}|eyJ|AKIA|ASIA|AIza")
"""What each text with a secret contains."""

_MARKS = ("[redacted", "***", "...", "…")


def redact_text(text: str, mark: str = REDACTED) -> str:
    """Replace everything in a text that looks like a secret.

    Args:
        text: Any text, such as a log line or an error message.
        mark: What stands in its place.

    Example:
        >>> redact_text("GET https://hub/x?token=abc")
        'GET https://hub/x?token=[redacted]'
    """
    if _TRIGGER.search(text) is None:
        return text
    return _remembered(text, mark) if len(text) <= _SHORT else _redacted(text, mark)


_SHORT: Final = 200
"""Characters of a text whose result is remembered: names, addresses and words of frames repeat, long texts do not."""


@lru_cache(2048)
def _remembered(text: str, mark: str) -> str:
    return _redacted(text, mark)


def _redacted(text: str, mark: str) -> str:
    text = _FORMS.sub(mark, text)
    text = _HEADERS.sub(partial(_header, mark), text)
    text = _SCHEMES.sub(partial(_scheme, mark), text)
    text = _USER.sub(rf"\1{mark}@", text)
    return "".join(_without_values(text, mark))


def _header(mark: str, match: re.Match[str]) -> str:
    return match[0] if match[3].startswith(_MARKS) else f"{match[1]}{match[2]}{mark}"


def _scheme(mark: str, match: re.Match[str]) -> str:
    # `basic protocol only` is a sentence.
    credential = match[1].lower() == "bearer" or re.search(r"[=\d]|[a-z][A-Z]|[A-Z][a-z]+[A-Z]", match[3])
    return f"{match[1]}{match[2]}{mark}" if credential else match[0]


def _without_values(text: str, mark: str) -> Iterator[str]:
    """The parts of a text, with `mark` for each value that has the name of a secret."""
    done = 0
    for match in _NAMES.finditer(text):
        if match.start() < done or not _is_secret(match):
            continue
        is_variable = match[1].isupper() and match[2] == "=" and not _is_in_address(match)
        value = (_SHELL_VALUE if is_variable else _VALUE).match(text, match.end())
        if value is None or value[value.lastindex or 0].startswith(_MARKS) or _is_sentence(match, value):
            continue
        yield text[done : value.start()] + (value[1] or "") + mark
        done = value.end()
    yield text[done:]


def _is_secret(match: re.Match[str]) -> bool:
    if match[2].isspace() and not match[0].startswith("--"):
        return False
    return is_secret_name(match[1]) or (_is_in_address(match) and match[1].lower() in _IN_ADDRESSES)


def _is_in_address(match: re.Match[str]) -> bool:
    return match.start() > 0 and match.string[match.start() - 1] in "?&#"


def _is_sentence(match: re.Match[str], value: re.Match[str]) -> bool:
    """Whether a word after a colon is the next word of a sentence."""
    word = value[3]
    if ":" not in match[2] or word is None or "pass" in match[1].lower():
        return False
    return len(word) < 6 or (len(word) < 24 and (word.isalpha() or word.isdigit()))


def redact(value: Any, known: Callable[[str], str] = str, depth: int = DEEPEST) -> Any:
    """Remove secrets: the values of `SECRET_FIELDS` and similar names, and parts of any text that look like a secret.

    Example:
        >>> redact({"token": "abc", "gpu": "a"})
        {'token': '[redacted]', 'gpu': 'a'}

    Args:
        value: JSON.
        known: Removes from a text the secrets that the program knows.
        depth: How many levels are kept; what is nested more deeply is removed.

    Returns:
        A copy without secrets.
    """
    if isinstance(value, Mapping):
        return {name: _field(str(name), item, known, depth - 1) for name, item in value.items()} if depth else REDACTED
    if isinstance(value, list | tuple):
        return [redact(item, known, depth - 1) for item in value] if depth else REDACTED
    if isinstance(value, str):
        return redact_text(known(value))
    return value


def _field(name: str, value: Any, known: Callable[[str], str], depth: int) -> Any:
    if value and name.lower() in SECRET_FIELDS:
        return REDACTED
    if isinstance(value, str) and value and is_secret_name(name):
        return REDACTED
    if isinstance(value, list | tuple) and is_secret_name(name):
        return [REDACTED if isinstance(item, str) else redact(item, known, depth) for item in value]
    return redact(value, known, depth)
