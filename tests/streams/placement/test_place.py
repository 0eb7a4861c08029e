"""What holds of every placing, whatever machines and jobs there are."""

from collections import Counter
from dataclasses import replace
from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzz.example_counts import BOUNDED
from wakestream.streams.placement.place import LEVEL, Machine, PlacePolicy, Placing, Shape, place

NAMES = "abcdef"
NOW = 10_000.0
TIMES = st.sampled_from((NOW - 5000, NOW - 100, NOW))
POLICIES = st.builds(
    PlacePolicy,
    patience=st.sampled_from((0.0, 120.0, 1e9)),
    min_gain=st.sampled_from((0.0, 30.0)),
    surplus_after=st.sampled_from((0.0, 60.0)),
    ahead=st.integers(0, 2),
)


@st.composite
def machines(draw: st.DrawFn) -> list[Machine]:
    found = []
    for name in NAMES[: draw(st.integers(0, len(NAMES)))]:
        phase = draw(st.sampled_from(("on", "on", "coming", "wakeable", "away")))
        held = draw(st.sampled_from((0, 0, 1, 4))) if phase == "on" else 0
        found.append(
            Machine(
                name,
                host=draw(st.sampled_from(("", "", "one"))),
                on=phase == "on",
                coming=phase == "coming",
                wakeable=phase == "wakeable",
                backed_off=phase == "wakeable" and draw(st.booleans()),
                price=draw(st.sampled_from((0.0, 1.0, 1.5))),
                slots=draw(st.integers(1, 3)),
                held=held,
                backlog=held * 60.0,
                boot=draw(st.sampled_from((0.0, 90.0, 600.0))),
                late=phase == "coming" and draw(st.booleans()),
                idle=0.0 if held else draw(st.sampled_from((0.0, 3600.0))),
            )
        )
    return found


@st.composite
def shapes(draw: st.DrawFn) -> list[Shape]:
    found = []
    for key in draw(st.permutations(range(4)))[: draw(st.integers(0, 4))]:
        first, last = sorted((draw(TIMES), draw(TIMES)))
        found.append(
            Shape(
                key,
                draw(st.sampled_from((1, 2, 30))),
                draw(st.sampled_from((frozenset(NAMES), frozenset("ab"), frozenset("bcd"), frozenset("f")))),
                work=draw(st.sampled_from((1.0, 120.0, 3600.0))),
                first=first,
                last=last,
                priority=draw(st.integers(0, 2)),
                used=draw(st.sampled_from((0.0, 1.0, 5.0))),
                share=draw(st.sampled_from((0.0, 1.0))),
                near=draw(st.dictionaries(st.sampled_from(NAMES), st.just(100.0))),
            )
        )
    return found


@st.composite
def uploads(draw: st.DrawFn) -> list[Shape]:
    """Jobs whose files are on the way to the depot."""
    fits = st.sampled_from((frozenset(NAMES), frozenset("ab"), frozenset("b"), frozenset("f")))
    ready = st.sampled_from((0.0, 50.0, 90.0, 91.0, 1000.0, inf))
    arrived = st.sampled_from((NOW - 5000, NOW))
    return [
        Shape(f"upload {n}", 1, draw(fits), first=(at := draw(arrived)), last=at, ready=draw(ready), grantable=False)
        for n in range(draw(st.integers(0, 3)))
    ]


def waiting(shapes: list[Shape], placing: Placing) -> list[Shape]:
    granted = Counter(key for key, _ in placing.grants)
    assert all(granted[shape.key] <= shape.jobs for shape in shapes)
    return [shape for shape in shapes if granted[shape.key] < shape.jobs]


def a_gpu_that_is_on_gets_jobs_that_fit_and_never_more_than_its_slots_and_those_ahead(
    machines, shapes, policy, placing
):
    known, given_ = {machine.name: machine for machine in machines}, Counter(name for _, name in placing.grants)
    for name, count in given_.items():
        assert known[name].on
        assert known[name].held + count <= known[name].slots + policy.ahead
    fits = {shape.key: shape.fits for shape in shapes}
    assert all(name in fits[key] for key, name in placing.grants)


def no_job_waits_beside_a_free_gpu_that_fits(machines, shapes, policy, placing):
    given_ = Counter(name for _, name in placing.grants)
    free = {machine.name for machine in machines if machine.on and machine.held + given_[machine.name] < machine.slots}
    assert not [shape for shape in waiting(shapes, placing) if shape.fits & free]


def each_machine_is_woken_once_for_a_shape_that_needs_it(machines, shapes, policy, placing):
    known, left = {machine.name: machine for machine in machines}, {shape.key for shape in waiting(shapes, placing)}
    hosts = [known[wake.gpu].host or wake.gpu for wake in placing.wakes]
    assert len(hosts) == len(set(hosts))
    fits = {shape.key: shape.fits for shape in shapes}
    for wake in placing.wakes:
        assert known[wake.gpu].wakeable
        assert wake.key in left
        assert wake.gpu in fits[wake.key]
        assert wake.sooner is None or (wake.sooner >= policy.min_gain and not known[wake.gpu].backed_off)


def each_waiting_job_that_a_machine_can_be_woken_for_has_one_that_is_on_or_coming(machines, shapes, policy, placing):
    woken = {wake.gpu for wake in placing.wakes}
    starting = {machine.host or machine.name for machine in machines if machine.coming or machine.name in woken}
    for shape in waiting(shapes, placing):
        fit = [machine for machine in machines if machine.name in shape.fits]
        assert fit or placing.expected[shape.key] == inf
        if any(machine.wakeable for machine in fit):
            assert any(machine.on or (machine.host or machine.name) in starting for machine in fit)


def a_machine_leaves_only_if_no_gpu_in_it_is_used_or_wanted(machines, shapes, policy, placing):
    wanted = frozenset[str]().union(*(shape.fits for shape in waiting(shapes, placing)))
    used = {name for _, name in placing.grants} | {wake.gpu for wake in placing.wakes}
    leaving = {*placing.surplus, *placing.unwanted}
    hosts = {machine.host for machine in machines if machine.name in leaving} - {""}
    for machine in machines:
        if machine.name in leaving or machine.host in hosts:
            assert not machine.held
            assert machine.name not in used
            assert not (machine.coming and machine.name in wanted)
    idle = {machine.host or machine.name for machine in machines if machine.on and not machine.held}
    stay = {machine.host or machine.name for machine in machines if machine.on and machine.name not in placing.surplus}
    assert stay or not idle


PROMISES = (
    a_gpu_that_is_on_gets_jobs_that_fit_and_never_more_than_its_slots_and_those_ahead,
    no_job_waits_beside_a_free_gpu_that_fits,
    each_machine_is_woken_once_for_a_shape_that_needs_it,
    each_waiting_job_that_a_machine_can_be_woken_for_has_one_that_is_on_or_coming,
    a_machine_leaves_only_if_no_gpu_in_it_is_used_or_wanted,
)


@BOUNDED
@given(machines(), shapes(), POLICIES)
def test_what_is_promised_of_every_placing_holds(machines, shapes, policy):
    placing = place(machines, shapes, policy, NOW)
    for promise in PROMISES:
        promise(machines, shapes, policy, placing)


@BOUNDED
@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(1, 1e5), st.integers(2, 6), POLICIES, st.floats(0, NOW))
def test_one_job_and_one_equal_machine_that_is_coming_wake_no_other(boot, passed, work, others, policy, arrived):
    coming = Machine("a", coming=True, boot=max(0.0, boot - passed))
    equal = [Machine(name, wakeable=True, boot=boot) for name in NAMES[1:others]]
    shape = Shape("x", 1, frozenset(NAMES), work, arrived, arrived)
    policy = replace(policy, min_gain=30.0)  # with none at all, a machine that brings nothing is as good
    assert not place([coming, *equal], [shape], policy, NOW).wakes


@BOUNDED
@given(machines(), shapes(), POLICIES, st.randoms(use_true_random=False))
def test_the_order_of_machines_and_shapes_changes_nothing(machines, shapes, policy, random: Random):
    before = place(machines, shapes, policy, NOW)
    random.shuffle(machines)
    random.shuffle(shapes)
    assert place(machines, shapes, policy, NOW) == before


@BOUNDED
@given(st.integers(0, 5), st.integers(0, 5), st.floats(0, 1e6), st.floats(0, 1e3))
def test_a_job_that_waits_long_enough_comes_before_every_newer_one(priority, newer, used, extra):
    waited = LEVEL * (max(0, newer - priority) + 1) + extra
    old = Shape("old", 1, frozenset("a"), first=NOW - waited, last=NOW - waited, priority=priority, used=used)
    new = Shape("new", 5, frozenset("a"), first=NOW, last=NOW, priority=newer)
    assert place([Machine("a", on=True)], [new, old], PlacePolicy(), NOW).grants[0] == ("old", "a")


@BOUNDED
@given(machines(), shapes(), uploads(), POLICIES)
def test_jobs_that_are_still_stored_are_given_to_no_gpu_and_take_nothing_from_others(machines, shapes, uploads, policy):
    alone = place(machines, shapes, policy, NOW)
    placing = place(machines, [*uploads, *shapes], policy, NOW)
    assert placing.grants == alone.grants
    assert placing.wakes[: len(alone.wakes)] == alone.wakes
    assert alone.expected.items() <= placing.expected.items()


@BOUNDED
@given(machines(), shapes(), uploads(), POLICIES)
def test_a_machine_is_woken_for_an_upload_only_if_it_is_not_on_before_that_ends(machines, shapes, uploads, policy):
    known, ready = {machine.name: machine for machine in machines}, {each.key: each.ready for each in uploads}
    placing = place(machines, [*uploads, *shapes], policy, NOW)
    for wake in placing.wakes:
        assert ready.get(wake.key, 0.0) <= known[wake.gpu].boot
    for name, (key, after) in placing.planned.items():
        if key in ready:
            assert after == ready[key] - known[name].boot
    at_once = place(machines, [*uploads, *shapes], replace(policy, wake_when="submitted"), NOW)
    woken = {wake.gpu for wake in at_once.wakes}
    starting = {machine.host or machine.name for machine in machines if machine.coming or machine.name in woken}
    for upload in uploads:
        fit = [machine for machine in machines if machine.name in upload.fits]
        if any(machine.wakeable for machine in fit):
            assert any(machine.on or (machine.host or machine.name) in starting for machine in fit)


def test_a_machine_is_not_kept_for_an_upload_that_lasts_longer_than_to_start_it_again():
    coming = Machine("a", coming=True, boot=90.0)
    for ready, unwanted in ((200.0, []), (300.0, ["a"]), (inf, ["a"])):
        upload = Shape("x", 1, frozenset("a"), ready=ready, grantable=False)
        placing = place([coming], [upload], PlacePolicy(patience=60.0), NOW)
        assert (placing.unwanted, placing.near) == (unwanted, set() if unwanted else {"x"})


@BOUNDED
@given(machines(), shapes(), uploads(), POLICIES)
def test_of_the_idle_machines_that_can_do_a_job_whose_files_come_soon_one_stays(machines, shapes, uploads, policy):
    placing = place(machines, [*uploads, *shapes], policy, NOW)
    used = {name for _, name in placing.grants}
    longest = {machine.name: policy.patience + 2 * machine.boot for machine in machines}
    idle = {machine.name for machine in machines if machine.on and not machine.held and machine.name not in used}
    for upload in uploads:
        soon = {name for name in upload.fits & idle if upload.ready <= longest[name]}
        assert not soon or not soon <= {*placing.surplus}


def test_a_dearer_idle_machine_stays_for_a_job_that_the_cheaper_one_cannot_do():
    cheap, other = Machine("a", on=True, idle=3600.0), Machine("b", on=True, price=1.0, idle=3600.0)
    upload = Shape("x", 1, frozenset("b"), ready=50.0, grantable=False)
    for waiting, surplus in (([upload], []), ([upload._replace(fits=frozenset("ab"))], ["b"]), ([], ["b"])):
        assert place([cheap, other], waiting, PlacePolicy(), NOW).surplus == surplus


def test_jobs_of_two_shapes_that_are_alike_in_rank_are_given_in_the_order_of_their_arrival():
    shapes = [
        Shape("early", 3, frozenset("a"), first=0, last=200),
        Shape("late", 3, frozenset("a"), first=50, last=250),
    ]
    granted = place([Machine("a", on=True, slots=6)], shapes, PlacePolicy(ahead=0), 300.0).grants
    assert [key for key, _ in granted] == ["early", "late", "early", "late", "early", "late"]
