"""The outbox's decisions about jobs that the user moves."""

from __future__ import annotations

from tests.streams.outbox.test_outbox import TASK, Desk
from wakestream.operators.model import events as e
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox


def desk_of(*jobs: str, **more: int) -> Desk:
    """An outbox with these jobs."""
    desk = Desk()
    for job in jobs:
        desk.submit(job, **more)
    return desk


def move(desk: Desk, job: str, before: str = "", *, first: bool = False) -> tuple[int, str]:
    """Move a job, and return the answer."""
    return desk.happens(f.Moving(1, job, before, first)).answer


def test_a_job_is_moved_before_another_to_the_top_and_to_the_end() -> None:
    desk = desk_of("a", "b", "c", "d")
    assert move(desk, "d", "b") == (200, "")
    assert desk.commands == [f.Reorder("d"), f.Answer(1, 200, "d")]
    assert desk.state.in_turn() == ["a", "d", "b", "c"]
    move(desk, "c", first=True)
    assert desk.state.in_turn() == ["c", "a", "d", "b"]
    move(desk, "a")
    assert desk.state.in_turn() == ["c", "d", "b", "a"]
    desk.submit("e")
    assert desk.state.in_turn()[-1] == "e"


def test_the_users_order_wins_over_priorities_and_a_new_job_comes_by_its_priority() -> None:
    desk = desk_of("a", "b").submit("urgent", priority=5)
    assert desk.state.in_turn() == ["urgent", "a", "b"]
    move(desk, "b", "urgent")
    assert desk.state.in_turn() == ["b", "urgent", "a"]
    assert desk.state.jobs["b"].priority == 5
    move(desk, "urgent")
    assert desk.state.in_turn() == ["b", "a", "urgent"]
    desk.submit("new", priority=1)
    assert desk.state.in_turn() == ["b", "new", "a", "urgent"]


def test_what_cannot_be_moved_is_refused_with_the_reason() -> None:
    desk = desk_of("a", "b", "gone", "over").says(TASK, "a").cancel("gone").says(e.Failed("no"), "over")
    before = [*outbox.DECIDER.snapshot(desk.state)]
    for job, reason in (
        ("a", "job a is at the GPU already; only a job that waits can be moved"),
        ("gone", "job gone is being cancelled; only a job that waits can be moved"),
        ("over", "job over has ended (failed); only a job that waits can be moved"),
    ):
        assert move(desk, job, "b") == (409, "not_movable")
        assert desk.commands == [f.Answer(1, 409, job, "not_movable", reason)]
    for job, other, missing in (("x", "b", "x"), ("b", "x", "x")):
        assert move(desk, job, other) == (404, "unknown_job")
        assert f"no job '{missing}'" in desk.commands[0].reason  # type: ignore[union-attr]
    assert [*outbox.DECIDER.snapshot(desk.state)] == before


def test_behind_another_job_is_before_the_next_in_turn_whatever_its_priority() -> None:
    desk = desk_of("a", "b", "c").submit("urgent", priority=5)
    for job, after, turns in (
        ("c", "a", "urgent a c b"), ("b", "urgent", "urgent b a c"), ("urgent", "a", "b a urgent c"),
        ("b", "c", "a urgent c b"), ("c", "c", "a urgent c b"),
    ):  # fmt: skip
        assert desk.happens(f.Moving(1, job, after=after)).answer == (200, "")
        assert " ".join(desk.state.in_turn()) == turns
    assert desk.happens(f.Moving(1, "a", after="x")).answer == (404, "unknown_job")
    assert outbox.DECIDER.restore(outbox.DECIDER.snapshot(desk.state)).in_turn() == desk.state.in_turn()
