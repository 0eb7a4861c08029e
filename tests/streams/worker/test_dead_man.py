"""When a machine that hub and work have left switches itself off."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from wakestream.streams.worker.dead_man import FIRST_RETRY, LONGEST_RETRY, WARNING, DeadManSwitch

HOURS = 3600.0


def test_it_warns_and_then_switches_off_after_the_time() -> None:
    switch = DeadManSwitch(2 * HOURS, 100.0)
    steps = {at: switch.look(100.0 + at, alive=False) for at in (0, 6479, 6480, 6481, 7199, 7200, 7201)}
    assert [at for at, step in steps.items() if step == "warn"] == [WARNING * 2 * HOURS]
    assert [at for at, step in steps.items() if step == "off"] == [2 * HOURS]


def test_any_sign_of_life_begins_the_time_again() -> None:
    switch = DeadManSwitch(100.0, 0.0)
    assert switch.look(95.0, alive=False) == "warn"
    assert switch.look(99.0, alive=True) == "wait"
    assert switch.look(190.0, alive=False) == "warn"
    assert switch.look(199.0, alive=False) == "off"


def test_while_the_machine_is_still_on_it_is_tried_again_less_and_less_often() -> None:
    switch = DeadManSwitch(10.0, 0.0)
    tries = [at for at in range(30_000) if switch.look(float(at), alive=False) == "off"]
    gaps = [late - early for early, late in itertools.pairwise(tries)]
    assert tries[0] == 10
    assert gaps[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert max(gaps) == LONGEST_RETRY
    assert switch.look(30_000.0, alive=True) == "wait"
    assert [at for at in range(30_001, 30_080) if switch.look(float(at), alive=False) == "off"] == [30_010, 30_070]


@given(st.lists(st.tuples(st.floats(0.1, 50.0), st.booleans()), max_size=50))
def test_it_never_switches_off_earlier(steps: list[tuple[float, bool]]) -> None:
    switch, now, seen = DeadManSwitch(60.0, 0.0), 0.0, 0.0
    for step, alive in steps:
        now += step
        if switch.look(now, alive=alive) == "off":
            assert now >= seen + 60.0
        seen = now if alive else seen
