"""A model of the promises against the real deciders of hub, monitor and daemons: killed, cut, doubled, clocks stepped.

Never two starts, never a stop while a lease is held, never an answer without a commit, an end is final, and in the
end every job that was taken has ended, and the machine is off. `make faults` looks at far more runs, and new ones each
time.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.faults.case_counts import LONG
from tests.support.faults.model_world import Watch, World
from wakestream.streams.hub import hub

which = st.integers(0, 5)
JOBS = 6


class Promises(RuleBasedStateMachine):
    """What can happen in the world, a step at a time."""

    GPUS: tuple[str, ...] = ("gpu",)

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.GPUS)
        self.made = 0

    @initialize()
    def everybody_comes(self) -> None:
        for peer in self.world.peers:
            peer.connect()
        self.world.settle()

    # --- work

    @precondition(lambda self: self.made < JOBS)
    @rule(daemon=st.integers(0, 1))
    def submit(self, daemon: int) -> None:
        self.made += 1
        self.world.daemons[daemon].submit(f"job-{self.made}")

    @rule(daemon=st.integers(0, 1))
    def cancel(self, daemon: int) -> None:
        running = sorted(self.world.daemons[daemon].phase)
        if running:
            self.world.daemons[daemon].cancel(running[0])

    @rule(daemon=st.integers(0, 1), count=st.integers(1, 3))
    def work(self, daemon: int, count: int) -> None:
        at = self.world.daemons[daemon]
        for job in sorted(at.phase)[:count]:
            at.try_again(job)
            at.work(job)

    # --- wires

    @rule(one=which, up=st.booleans(), twice=st.sampled_from([False, False, False, True]))
    def deliver(self, one: int, up: bool, twice: bool) -> None:
        ways = [fd for fd, wire in self.world.wires.items() if (wire.up if up else wire.down)]
        if ways:
            self.world.deliver(ways[one % len(ways)], up=up, twice=twice)

    @rule()
    def all_arrives(self) -> None:
        self.world.settle()

    @rule(one=which)
    def cut(self, one: int) -> None:
        self.world.peers[one % len(self.world.peers)].cut()

    @rule(one=which)
    def the_hub_notices(self, one: int) -> None:
        dead = [fd for fd, wire in self.world.wires.items() if wire.cut]
        if dead:
            self.world.closed(dead[one % len(dead)])

    @rule()
    def reconnect(self) -> None:
        for peer in self.world.peers:
            peer.connect()

    # --- programs

    @rule()
    def commit(self) -> None:
        self.world.commit()

    @rule()
    def kill_hub(self) -> None:
        self.world.kill_hub()

    @rule(one=which)
    def kill_monitor(self, one: int) -> None:
        self._watch(one).kill()

    @rule(daemon=st.integers(0, 1))
    def kill_daemon(self, daemon: int) -> None:
        self.world.daemons[daemon].kill()

    @precondition(lambda self: self.made < JOBS)
    @rule(daemon=st.integers(0, 1))
    def kill_daemon_before_it_commits(self, daemon: int) -> None:
        self.world.daemons[daemon].submit(f"unheard-{self.made}", kept=False)

    # --- the machine, and time

    def _watch(self, one: int) -> Watch:
        return self.world.watches[one % len(self.world.watches)]

    @rule(one=which)
    def the_provider_answers(self, one: int) -> None:
        self._watch(one).answer()

    @rule()
    def taken_back(self) -> None:
        self.world.provider.taken_back()

    @rule(seconds=st.sampled_from([1.0, 5.0, 15.0, 40.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.passes(seconds)

    @rule(seconds=st.sampled_from([35.0, 70.0]))
    def the_monitor_stands_still(self, seconds: float) -> None:
        self.world.passes(seconds, watched=False)

    @rule(work=st.booleans())
    def a_good_minute(self, work: bool) -> None:
        for _ in range(60):
            self.world.one_good_second(work=work)

    @rule(one=which)
    def a_good_moment(self, one: int) -> None:
        for _ in range(one):
            self.world.one_good_second(work=False)

    # --- what is always so

    @invariant()
    def what_was_promised_is_kept(self) -> None:
        for daemon in self.world.daemons:
            for job in daemon.promised:
                assert job in daemon.state.jobs
                ended = daemon.state.jobs[job].ended
                assert (ended.outcome if ended else None) == daemon.ends.get(job)

    @invariant()
    def the_journal_tells_what_the_hub_knows(self) -> None:
        if not self.world.pending:
            known = hub.DECIDER.recover(self.world.journal)
            assert {job.id: job.gpu for job in known.jobs.values()} == {
                job.id: job.gpu for job in self.world.hub.jobs.values()
            }

    def teardown(self) -> None:
        self.world.calm()


class PromisesUnderSteppedClocks(Promises):
    """The same, and the hub's clock is set."""

    @rule(by=st.sampled_from([-86_400.0, -3600.0, 3600.0, 86_400.0]))
    def the_clock_steps(self, by: float) -> None:
        self.world.clock_steps(by)


class PromisesOfTwoMonitors(PromisesUnderSteppedClocks):
    """The same with two GPUs in the machine, each with a monitor of its own: the hub lets one of them stop it."""

    GPUS = ("gpu", "gpu-2")


MANY = settings(
    derandomize=not LONG,
    max_examples=3000 if LONG else 250,
    stateful_step_count=60 if LONG else 40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestPromises = Promises.TestCase
TestPromises.settings = MANY
TestPromises = pytest.mark.timeout(3000 if LONG else 180)(TestPromises)
TestSteppedClocks = PromisesUnderSteppedClocks.TestCase
TestSteppedClocks.settings = MANY
TestSteppedClocks = pytest.mark.timeout(3000 if LONG else 180)(TestSteppedClocks)
TestTwoMonitors = PromisesOfTwoMonitors.TestCase
TestTwoMonitors.settings = MANY
TestTwoMonitors = pytest.mark.timeout(3000 if LONG else 180)(TestTwoMonitors)
