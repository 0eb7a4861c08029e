"""Times given as flags of one command alone, which are not among the settings."""

from __future__ import annotations

from wakestream.adapters.config.numbers import seconds
from wakestream.adapters.config.settings import SettingsError


def seconds_of(flag: str, text: str) -> float:
    """The time in seconds; `SettingsError` names the flag."""
    try:
        return seconds(text)
    except ValueError as error:
        raise SettingsError(f"{flag} {error}") from None
