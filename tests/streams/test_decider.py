"""The class that hub, outbox, worker and monitor share."""

from typing import Any

from wakestream.streams.decider import Decider, Decision


def counter(**steps: Any) -> Decider[list[int], int, int, str]:
    def add(_: list[int], event: int, now: float, decision: Decision[int, str]) -> None:
        decision.fact(event)
        decision.command(f"at {now:g}")

    return Decider(list, {int: add}, {int: list.append}, **steps)


def test_deciding_changes_nothing_and_a_step_applies_the_facts() -> None:
    state: list[int] = []
    assert counter().decide(state, 5, 1.0) == ([5], ["at 1"])
    assert state == []
    assert counter().step(state, 5, 2.0).commands == ["at 2"]
    assert state == [5]


def test_facts_are_recovered_into_a_state_that_is_given() -> None:
    state = counter().recover([1, 2])
    assert counter().recover([3], state) is state
    assert state == [1, 2, 3]


def test_the_last_step_of_a_decision_and_of_a_restart_may_add_to_it() -> None:
    decider = counter(finish=lambda state, decision, now: decision.fact(0), restart=lambda state: state.append(9))
    assert decider.decide([], 5, 1.0).facts == [5, 0]
    assert decider.recover([1]) == [1, 9]
