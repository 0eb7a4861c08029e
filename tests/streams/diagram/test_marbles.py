"""What a marble diagram shows of a log, and where: lanes, stages, groups, folded waits, labels that keep apart."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from tests.support.streams.marbles_scene import BOOT, recorded
from wakestream.streams.diagram.groups import course, flow, gathered, spread
from wakestream.streams.diagram.lanes import diagram
from wakestream.streams.diagram.layout import Flag, bunched, chained, place, scale
from wakestream.streams.diagram.marbles import TIMES, Diagram, Lane, Mark, Span
from wakestream.streams.recording.recording import Header, Log, Row
from wakestream.streams.replay.divergence import Divergence

NIGHT = ("offline", "online", "client 1", "client 10", "client 200", "hub 3", "hub 200")


def lane(picture: Diagram, title: str) -> Lane:
    return next(lane for lane in picture.lanes if lane.title == title)


@pytest.mark.parametrize("name", NIGHT)
def test_every_row_of_a_log_is_on_a_lane_alone_or_in_a_group(name: str) -> None:
    log = recorded(name)
    for picture in (diagram(log), gathered(diagram(log))):
        assert {mark.seq for lane in picture.lanes for mark in lane.marks} == {row.seq for row in log.rows}


def test_a_job_is_drawn_in_its_stages_with_its_outcome() -> None:
    job = lane(diagram(recorded("offline")), "job-offline")
    assert [span.word for span in job.spans] == ["wait", "upload", "render", "download"]
    assert (job.outcome, job.marks[-1].kind) == ("done", "done")
    assert all(a.end == b.start for a, b in zip(job.spans, job.spans[1:], strict=False))
    assert job.spans[-1].end == job.end


def test_messages_of_each_direction_and_the_power_have_lines_of_their_own() -> None:
    picture = diagram(recorded("client 1"))
    assert [lane.title for lane in picture.lanes] == [
        "power gpu-a",
        "hub link",
        "messages in",
        "messages out",
        "job-1",
    ]
    assert [span.word for span in picture.lanes[0].spans] == ["off", "starting", "booted", "online"]
    assert picture.lanes[0].spans[-1].start == pytest.approx(BOOT, abs=0.01)
    assert [mark.label for mark in lane(picture, "messages out").marks] == ["job.submit", "job.done"]


def test_retries_cancels_and_failures_are_marks_that_weigh_enough_to_be_named() -> None:
    picture = diagram(recorded("client 10"))
    named = {mark.label for lane in picture.lanes for mark in lane.marks if mark.weight >= 3}
    assert {"upload failed", "retrying", "job.cancel", "cancelled", "report failed", "failed", "done"} <= named
    again = lane(picture, "job-3")
    assert [span.word for span in again.spans][:4] == ["wait", "upload", "wait", "upload"]


def test_an_older_hubs_power_is_derived_from_its_messages_to_jobs() -> None:
    rows = [row for row in recorded("client 1").rows if row.label != "gpu.power.state"]
    power = diagram(replace(recorded("client 1"), rows=tuple(rows))).lanes[0]
    assert [(span.word, power.title) for span in power.spans] == [("off", "power"), ("online", "power")]


def test_a_hub_s_log_has_a_line_per_connection_by_its_role_and_per_job() -> None:
    picture = diagram(recorded("hub 3"))
    titles = [lane.title for lane in picture.lanes]
    assert titles[:2] == ["power gpu-a", "hub"]
    assert titles[2:] == ["monitor 1", "worker 2", "client 10", "client 11", "client 12", "job-1", "job-2", "job-3"]
    assert [span.word for span in lane(picture, "job-1").spans] == ["wait", "hold"]
    assert lane(picture, "job-1").outcome == "done"


def test_a_job_whose_gpu_was_lost_is_queued_again_in_the_hubs_log() -> None:
    said = (
        ("in", "gpu.job.submit"),
        ("out", "ack"),
        ("in", "gpu.job.submit"),
        ("out", "gpu.power.offline"),
        ("out", "ack"),
    )
    rows = (
        Row(seq, float(seq), "in" if way == "in" else "out", label, {"fd": 1, "frame": {"type": label}}, "job-1")
        for seq, (way, label) in enumerate(said)
    )
    job = lane(diagram(Log(Header("hub", 0.0, 0), tuple(rows))), "job-1")
    assert [span.word for span in job.spans] == ["wait", "hold", "wait", "hold"]
    assert job.outcome == ""


def test_a_monitor_s_log_shows_its_states_and_what_the_provider_answered() -> None:
    rows = (
        Row(1, 0.1, "conn", "up", {"features": []}),
        Row(2, 0.2, "out", "gpu.power.state", {"type": "gpu.power.state", "gpu": "a", "state": "off"}),
        Row(3, 1.0, "conn", "tick", {}),
        Row(4, 2.0, "effect", "power.start", {"number": 1}),
        Row(5, 2.1, "out", "gpu.power.state", {"type": "gpu.power.state", "gpu": "a", "state": "starting"}),
    )
    picture = diagram(Log(Header("monitor", 0.0, 0), rows))
    assert [lane.title for lane in picture.lanes] == ["power a", "hub link", "messages out", "provider", "monitor"]
    assert [(span.word, span.start, span.end) for span in picture.lanes[0].spans] == [
        ("off", 0.2, 2.1),
        ("starting", 2.1, 2.1),
    ]


@pytest.mark.parametrize("rows", [(), (Row(1, 0.0, "in", "ping", {"type": "ping"}),)])
def test_a_nearly_empty_log_is_drawn(rows: tuple[Row, ...]) -> None:
    picture = diagram(Log(Header("daemon", 0.0, 0), rows))
    assert (picture.jobs, picture.seconds, len(picture.lanes)) == (0, 0.0, len(rows))


# Divergences


def test_a_divergence_is_marked_on_the_lane_of_its_job_at_the_row_s_time() -> None:
    log = recorded("client 10")
    row = next(row for row in log.rows if row.job == "job-4" and row.label == "uploaded")
    picture = diagram(log, [Divergence("job-4", row, None)])
    mark = lane(picture, "job-4").marks[-1]
    assert (mark.kind, mark.t, mark.weight) == ("divergence", row.t, 4)
    assert mark.label == "≠ expected uploaded, got nothing"


def test_a_divergence_of_a_connection_or_of_a_job_s_effects_finds_its_lane() -> None:
    row = Row(7, 1.0, "out", "ack", {})
    hub = diagram(recorded("hub 3"), [Divergence(11, row, row)])
    assert lane(hub, "client 11").marks[-1].label == "≠ ack differs"
    client = diagram(recorded("client 1"), [Divergence("job-1 effects", None, row)])
    assert lane(client, "job-1").marks[-1].label == "≠ expected nothing, got ack"


# Groups


def test_up_to_12_jobs_stand_alone_and_more_are_grouped_by_course_and_outcome() -> None:
    assert all(lane.kind != "jobs" for lane in gathered(diagram(recorded("client 10"))).lanes)
    picture = gathered(diagram(recorded("client 200")))
    groups = [lane for lane in picture.lanes if lane.kind in ("job", "jobs")]
    assert len(groups) <= 12
    assert sum(max(1, len(lane.members)) for lane in groups) == picture.jobs == 200
    assert groups[0].title == f"{TIMES}{len(groups[0].members)} jobs"
    for group in groups:
        assert len({course(member) for member in group.members}) <= 1


def test_a_job_with_a_divergence_is_not_lost_in_its_group() -> None:
    log = recorded("client 200")
    row = next(row for row in log.rows if row.job == "job-33" and row.label == "uploaded")
    picture = gathered(diagram(log, [Divergence("job-33", row, None)]))
    assert lane(picture, "job-33").members == ()


def test_more_jobs_than_lanes_leave_a_lane_for_the_others() -> None:
    lanes = tuple(
        Lane("job", f"job-{n}", spans=(Span(0.0, 1.0, f"stage-{n % 20}"),), ids=(f"job-{n}",)) for n in range(60)
    )
    groups = gathered(Diagram("daemon", 0.0, lanes, (0.0, 1.0))).lanes
    assert len(groups) == 12
    assert groups[-1].title == f"{TIMES}27 other jobs"
    assert Counter(each for group in groups for each in group.ids) == Counter(f"job-{n}" for n in range(60))


def test_connections_of_one_role_share_a_line_when_they_are_many() -> None:
    picture = gathered(diagram(recorded("hub 200")))
    assert [lane.title for lane in picture.lanes if lane.kind == "connection"] == [
        "monitor 1",
        "worker 2",
        f"{TIMES}200 clients",
    ]


def test_the_flow_of_a_group_counts_each_job_once_at_any_time() -> None:
    group = next(lane for lane in gathered(diagram(recorded("client 200"))).lanes if lane.kind == "jobs")
    times = [0.0, 50.0, BOOT + 3, BOOT + 10, 1000.0]
    layers = dict(flow(group, times))
    assert [sum(counts[i] for counts in layers.values()) for i in (1, 2, 3, 4)] == [len(group.members)] * 4
    assert (layers["wait"][1], layers["over"][4]) == (len(group.members), len(group.members))
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


# Time


def free(_: float, __: float) -> float:
    return 0.0


def test_a_long_wait_is_folded_and_the_rest_is_to_scale() -> None:
    moments = [0.0, 1.0, 2.0, 1800.0, 1801.0, 1803.0]
    found = scale(moments, 500.0, fold=50.0, most=5, apart=10.0, price=free)
    assert [(each.start, each.end) for each in found.folds] == [(2.0, 1800.0)]
    assert found.folds[0].right - found.folds[0].left == 50.0
    widths = [found.at(b) - found.at(a) for a, b in ((0.0, 1.0), (1800.0, 1801.0), (1801.0, 1803.0))]
    assert widths == pytest.approx([90.0, 90.0, 180.0])


def test_places_grow_with_time_and_lead_back_to_it() -> None:
    draw = Random(3)
    moments = [draw.expovariate(0.01) ** 2 for _ in range(60)]
    found = scale(moments, 840.0, fold=46.0, most=7, apart=16.0, price=free)
    places = [found.at(t) for t in sorted(moments)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, pytest.approx(840.0))
    for t in sorted(moments):
        assert found.at(found.time(found.at(t))) == pytest.approx(found.at(t), abs=1e-6)


def test_even_steps_are_not_folded() -> None:
    assert scale(range(40), 800.0, fold=46.0, most=7, apart=16.0, price=free).folds == []


@pytest.mark.parametrize("moments", [[], [5.0], [5.0, 5.0], [5.0, 6.0]])
def test_next_to_no_moments_make_a_scale_too(moments: list[float]) -> None:
    found = scale(moments, 100.0, fold=20.0, most=3, apart=10.0, price=free)
    assert (found.at(5.0), found.stretches[-1].right) == (0.0, 100.0)


def test_work_is_folded_less_readily_than_a_wait() -> None:
    picture = Diagram("daemon", 0.0, (), (0.0, 1000.0), busy=(Span(100.0, 200.0, "busy"),))
    assert picture.price(120.0, 180.0) > picture.price(300.0, 360.0) > picture.price(300.0, 700.0)


# Labels


def mark(t: float, label: str = "ack") -> Mark:
    return Mark(t, label, "in", 2, int(t * 10), label)


def test_marks_of_one_label_at_one_place_are_one_with_their_number() -> None:
    found = bunched([mark(1.0), mark(1.2), mark(1.3, "online"), mark(9.0)], lambda t: t * 10, 5.0)
    assert [(each.x, each.label) for each in found] == [(10.0, f"ack {TIMES}2"), (13.0, "online"), (90.0, "ack")]
    assert [each.label for each in chained(found, 100.0)] == [f"ack {TIMES}3", "online"]


def test_labels_touch_neither_each_other_nor_a_pole() -> None:
    draw = Random(11)
    for _ in range(100):
        flags = [
            Flag(draw.choice((draw.uniform(0, 300), 40.0)), draw.uniform(10, 90), draw.randrange(4)) for _ in range(40)
        ]
        rows = place(flags, 4, 340.0)
        put = [(flag, row) for flag, row in zip(flags, rows, strict=True) if row is not None]
        assert put
        for flag, row in put:
            assert flag.x + flag.width <= 340.0
            for other, level in put:
                beside = other.x + other.width <= flag.x or flag.x + flag.width <= other.x
                assert other is flag or level != row or beside
                assert level <= row or not flag.x < other.x < flag.x + flag.width


def test_the_weightier_label_wins_the_space() -> None:
    assert place([Flag(0.0, 50.0, 1), Flag(10.0, 50.0, 3), Flag(20.0, 50.0, 2)], 1, 100.0) == [None, 0, None]
