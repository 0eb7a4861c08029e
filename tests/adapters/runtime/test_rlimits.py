"""How many connections fit into what the system allows."""

import sys

import pytest

from wakestream.adapters.runtime.rlimits import SPARE, connections_allowed

if sys.platform == "win32":
    pytest.skip("there is no such limit", allow_module_level=True)

import resource


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits in force, the last one first of all; nothing is really changed."""
    in_force = [(256, 1000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: in_force[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: in_force.append(limit))
    return in_force


def test_the_limit_is_raised_no_further_than_is_needed(limits: list[tuple[int, int]]) -> None:
    assert connections_allowed(300) == 300
    assert limits[-1] == (300 + SPARE, 1000)


def test_a_limit_that_is_high_enough_is_left_alone(limits: list[tuple[int, int]]) -> None:
    assert connections_allowed(100) == 100
    assert len(limits) == 1


def test_limits_over_the_hard_limit_are_not_claimed(limits: list[tuple[int, int]]) -> None:
    assert connections_allowed(20_000) == 1000 - SPARE
    assert limits[-1] == (1000, 1000)


def test_a_system_that_refuses_keeps_its_limit(limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert connections_allowed(300) == 256 - SPARE


def test_without_a_limit_all_are_allowed(limits: list[tuple[int, int]]) -> None:
    limits.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert connections_allowed(20_000) == 20_000


def test_a_hidden_limit_of_macos_is_respected(limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    def choosy(_: int, limit: tuple[int, int]) -> None:
        if limit[0] > 10_240:
            raise ValueError("current limit exceeds maximum limit")
        limits.append(limit)

    limits.append((256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", choosy)
    assert connections_allowed(20_000) == 10_240 - SPARE
    assert limits[-1] == (10_240, resource.RLIM_INFINITY)
