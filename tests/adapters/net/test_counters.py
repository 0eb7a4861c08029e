"""Refusals are counted by reason, and every listener gets each of them."""

from wakestream.adapters.net.connection_limits import Refusals


def test_refusals_are_counted_by_reason_and_reported() -> None:
    told: list[tuple[str, int]] = []
    refused = Refusals(lambda reason, times: told.append((reason, times)))
    for reason in ("malformed", "full", "malformed"):
        refused.count(reason)
    assert refused == {"malformed": 2, "full": 1}
    assert (refused.total(), refused["never"]) == (3, 0)
    assert told == [("malformed", 1), ("full", 1), ("malformed", 2)]


def test_counting_works_without_a_listener() -> None:
    refused = Refusals()
    refused.count("malformed")
    assert refused["malformed"] == 1
