"""The same log gives the same outcome under every hash seed, in this Python and in another version of it."""

import re
import sys

import pytest

from tests import determinism

ONLY = "only Python {}.{} is here"


@pytest.mark.timeout(600)
def test_every_log_has_one_outcome_under_8_hash_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    code = determinism.main()
    told = capsys.readouterr().out
    logs, seeds = re.match(r"(\d+) logs, (\d+) hash seeds, Python 3", told).groups()  # type: ignore[union-attr]
    assert code == 0, told
    assert int(logs) > 40
    assert int(seeds) == len(set(determinism.SEEDS)) == 8


def test_an_outcome_that_differs_is_named() -> None:
    runs = [("a", {"x": "1", "y": "2"}), ("b", {"x": "1", "y": "3"}), ("c", {"x": "1"})]
    assert determinism.differences(runs) == [
        "y: b came out otherwise than a",
        "y: c came out otherwise than a",
    ]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with one Python, where the runs themselves are taken for granted."""
    monkeypatch.setenv("PYTHONS", sys.executable)
    monkeypatch.delenv("REQUIRE_TWO_PYTHONS", raising=False)
    monkeypatch.setattr(determinism, "outcomes_under", lambda *_: {"x": "1"})
    return monkeypatch


def test_with_one_python_it_passes_with_a_notice(alone: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert determinism.main() == 0
    assert ONLY.format(*sys.version_info[:2]) in capsys.readouterr().out


def test_a_machine_with_one_python_fails_where_two_are_required(
    alone: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone.setenv("REQUIRE_TWO_PYTHONS", "1")
    assert determinism.main() == 1
    assert ONLY.format(*sys.version_info[:2]) in capsys.readouterr().out


def test_a_difference_fails_the_gate(alone: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    alone.setattr(determinism, "outcomes_under", lambda _, seed: {"x": seed})
    assert determinism.main() == 1
    assert "x: Python" in capsys.readouterr().out


def test_something_that_is_no_python_is_no_other_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONS", "no-such-program /")
    assert determinism.other_pythons() == []
