"""The secrets that this program knows: no line, error message, recording or JSON shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from wakestream.operators.model.engine import Kind
from wakestream.streams.protocol.param_schema import is_secret
from wakestream.streams.recording.secrets import REDACTED, is_secret_name, redact, redact_text

HIDDEN: Final = "***"
"""What stands in the place of a secret in lines for people."""

SHORTEST: Final = 4
"""Shorter secrets are not redacted: they would remove parts of many lines."""

_known: list[str] = []


def hide(*secrets: str) -> None:
    """Redact these values from now on, also where they are escaped for a URL or for JSON."""
    long = {secret for secret in secrets if len(secret) >= SHORTEST and not secret.startswith(REDACTED)}
    escaped = {form for value in long for form in (value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1])}
    # The longest first, since one secret may begin with another.
    _known[:] = sorted(escaped.union(_known), key=len, reverse=True)


def hide_params(kinds: Iterable[Kind], params: Mapping[str, Any]) -> dict[str, Any]:
    """Hide the values that a kind declares as secret, and return the parameters as people may see them.

    Args:
        kinds: The job's kind, or all kinds of its name.
        params: The job's parameters.

    Returns:
        The parameters; each secret is `[redacted]`.
    """
    names = secret_names(kinds, params)
    hide(*(str(params[name]) for name in names))
    shown: dict[str, Any] = redacted({**params, **dict.fromkeys(names, REDACTED)})
    return shown


def secret_names(kinds: Iterable[Kind], params: Mapping[str, Any]) -> set[str]:
    """The parameters with a value that a kind declares as secret; those with such a name if no kind is known."""
    known = [*kinds]
    schemas = [parameter for kind in known for parameter in kind.params.get("properties", {}).items()]
    declared = {name for name, schema in schemas if is_secret(schema)}
    return {name for name, value in params.items() if value and (name in declared if known else is_secret_name(name))}


def known_params(params: Mapping[str, Any]) -> set[str]:
    """The parameters whose value was hidden."""
    return {name for name, value in params.items() if str(value) in _known}


def forget() -> None:
    """Forget all of them, for tests."""
    _known.clear()


def without_known(text: str) -> str:
    """`text` without the secrets that were hidden."""
    for secret in _known:
        text = text.replace(secret, HIDDEN)
    return text


def redacted_text(text: str) -> str:
    """`text` without known secrets and without anything that looks like one."""
    return redact_text(without_known(text), HIDDEN)


def redacted(value: Any) -> Any:
    """JSON without known secrets and without anything that looks like one."""
    return redact(value, without_known)
