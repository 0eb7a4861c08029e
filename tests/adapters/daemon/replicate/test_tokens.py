"""Tokens of programs: found by their text, limited, and stored as hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.daemon.replicate.tokens import Tokens

DAY = 24 * 3600.0


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 20_000 * DAY

    def __call__(self) -> float:
        return self.now


def test_a_token_is_found_by_its_text_also_by_another_program_and_its_text_is_not_stored(tmp_path: Path) -> None:
    running, text = Tokens(tmp_path), Tokens(tmp_path).add("shop", ("upscale",), 5)
    found = running.of(text)
    assert found is not None
    assert (found.name, found.kinds, found.per_day) == ("shop", ("upscale",), 5)
    assert (found.allows("upscale"), found.allows("lipsync")) == (True, False)
    assert text not in (tmp_path / "tokens.json").read_text()
    Tokens(tmp_path).remove("shop")
    assert running.of(text) is None


def test_a_second_token_of_a_name_and_the_removal_of_none_are_refused(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    tokens.add("shop")
    with pytest.raises(SettingsError, match="wakestream token rm shop"):
        tokens.add("shop")
    with pytest.raises(SettingsError, match="wakestream token list"):
        tokens.remove("other")
    for name in ("", "two words"):
        with pytest.raises(SettingsError, match="no name"):
            tokens.add(name)


async def test_a_day_has_so_many_predictions_also_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    tokens = Tokens(tmp_path, clock)
    token = tokens.of(tokens.add("shop", per_day=2))
    assert token is not None
    assert [tokens.take(token) for _ in range(3)] == [True, True, False]
    tokens.give_back(token)
    await tokens.keep()
    again = Tokens(tmp_path, clock)
    assert (again.used(token), again.take(token), again.take(token)) == (1, True, False)
    clock.now += DAY
    assert (again.used(token), again.take(token)) == (0, True)
