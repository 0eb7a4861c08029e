"""How long a retry waits."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wakestream.operators.model.backoff import Backoff

EXACT = Backoff(initial=1.0, factor=2.0, max_delay=60.0, jitter=0.0)


def test_the_delays_double_up_to_their_limit() -> None:
    assert [EXACT.delay(n, Random(0)) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("attempt", [100, 10_000, 10**9])
@pytest.mark.parametrize("factor", [1.01, 2, 1e6])
def test_a_late_attempt_waits_the_longest_delay_whatever_the_factor(attempt: int, factor: float) -> None:
    backoff = Backoff(initial=1.0, factor=factor, max_delay=2.0, jitter=0.0)
    assert backoff.delay(attempt, Random(0)) == 2.0


def test_no_initial_delay_stays_none() -> None:
    assert Backoff(initial=0.0, jitter=0.0).delay(10_000, Random(0)) == 0.0


@given(seed=st.integers(), attempt=st.integers(1, 10_000), jitter=st.floats(0, 1))
def test_jitter_only_shortens_and_is_the_same_for_a_seed(seed: int, attempt: int, jitter: float) -> None:
    full = EXACT.delay(attempt, Random(0))
    backoff = Backoff(initial=1.0, factor=2.0, max_delay=60.0, jitter=jitter)
    delay = backoff.delay(attempt, Random(seed))
    assert full * (1 - jitter) <= delay <= full
    assert delay == backoff.delay(attempt, Random(seed))
