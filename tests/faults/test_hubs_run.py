"""The accounts of the run with two hubs: each can fail. The run itself is `make kills`."""

from tests.faults.hubs_run import HubAccounts, Watch


def answers(*of: tuple[str, float, int | None]) -> list[str]:
    """What the watch finds in these answers, each with its hub, when it was asked for, and its status."""
    watch = Watch()
    for hub, asked, status in of:
        watch.note(hub, asked, asked + 0.1, status)
    return watch.twice()


def test_a_hub_that_answers_as_the_leader_after_another_one_did_is_found() -> None:
    assert answers(("a", 1, 200), ("b", 2, 200), ("a", 3, 200)) == ["a and b both led for 0.900 s at 2.100"]
    assert answers(("a", 1, 200), ("b", 2, 200), ("a", 3, 0), ("a", 4, 200)), "an answer that came late ends no term"


def test_hubs_that_lead_one_after_the_other_are_no_fault() -> None:
    assert answers(("a", 1, 200), ("a", 2, 503), ("b", 3, 200), ("b", 4, None), ("a", 5, 200)) == []
    assert answers(("a", 1, 200), ("b", 2, 200), ("a", 3, 503), ("b", 4, 200)) == []
    assert answers(("a", 1, 200), ("b", 1.05, 200), ("a", 1.08, 200)) == [], "which of them came first is not known"


def test_each_account_of_the_hubs_is_a_fault() -> None:
    for name in ("led_twice", "held", "endless", "lost"):
        assert HubAccounts(0, **{name: ["that"]}).faults == ["that"]
    assert HubAccounts(0).faults == []
