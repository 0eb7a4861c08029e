"""What placing costs, and how long jobs wait, in simulated days. `make simulate` prints it for any seed."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
import simulate  # type: ignore[import-not-found,unused-ignore]

SEEDS = (1, 2, 3)


def ratio(found: list[dict[str, simulate.Found]], part: int, name: str = simulate.OURS) -> float:
    return sum(each[name][part] for each in found) / sum(each[simulate.WAKE_ALL][part] for each in found)


@pytest.mark.parametrize(("load", "most"), simulate.ACCEPTED.items())
def test_placing_costs_less_than_waking_all_and_jobs_do_not_wait_much_longer(
    load: str, most: tuple[float, float]
) -> None:
    found = [simulate.simulate(load, seed, (simulate.WAKE_ALL, simulate.OURS)) for seed in SEEDS]
    assert ratio(found, 0) <= most[0]
    assert ratio(found, 1) <= most[1]


def test_the_real_hub_costs_and_waits_as_the_rules_alone() -> None:
    found = simulate.simulate("bursts", 1, (simulate.OURS, simulate.REAL))
    rules, hub = found[simulate.OURS], found[simulate.REAL]
    assert hub.cost == pytest.approx(rules.cost, rel=0.1)
    assert hub.mean == pytest.approx(rules.mean, rel=0.1)


def test_no_policy_is_better_than_the_oracle_in_both() -> None:
    names = (simulate.WAKE_ALL, simulate.OURS)
    found = simulate.simulate("day", 1, names)
    oracle = found["oracle"]
    assert all(found[name].cost >= oracle.cost or found[name].mean >= oracle.mean for name in names)
