"""Jobs, ends, kills, full disks and set clocks in any order: what a worker never does, and what it does in the end."""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import ExitStack
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from wakestream.operators.model.engine import Frame, Waits
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import Output
from wakestream.streams.worker import shares
from wakestream.streams.worker import state as w
from wakestream.streams.worker.worker import DECIDER

LIMITS = {"MAX_UNFINISHED": 3, "MAX_UNFINISHED_IN_ALL": 4, "MAX_FINISHED": 1, "MAX_FRESH": 3, "MAX_HOLDERS": 2}
HOUR = shares.PROMISED
LICENSES = (w.ANONYMOUS, "ann", "bob")

PAIRS = [w.pair(FileRef(f"{n:032x}", ".mp4"), FileRef(f"{n:032x}", ".wav")) for n in range(4)]
PICTURE = w.TaskSpec({"image": FileRef("9" * 32, ".png")}, "paint", {"depth": 2}, ("one", "two"))
SPECS = {w.task_id(spec): spec for spec in (*PAIRS, PICTURE)}


def results_of(name: str) -> tuple[Output, ...]:
    """What the engine makes of a task."""
    return tuple(Output(output, ".mp4", 5, f"{output} of {name}") for output in SPECS[name].outputs)


Hold = tuple[str, str, str]
"""A job that waits for a task: the task's id, the job's, and its license."""

names = st.sampled_from(sorted(SPECS))
licenses = st.sampled_from(LICENSES)
SAID = [Frame(1, 4, 25.0), Frame(4, 4, 100.0), Waits("behind others", 2)]
whose = st.sampled_from(["its own", "its own", "another license", "the secret"])
asks = st.lists(st.tuples(names, st.sampled_from(["job-1", "job-2", "job-3"]), licenses), min_size=1, max_size=4)
hows = st.sampled_from(["done", "failed", "lost", "paused", "alone", "alone", "not_ready"])


class World(RuleBasedStateMachine):
    """Clients, hub, engine, disk and clocks of one worker, whose program does what `TaskQueue` does."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = ExitStack()
        self.limits.enter_context(patch.multiple(shares, **LIMITS))
        self.limits.enter_context(patch.object(w, "MAX_FILES", 6))

    @initialize(slots=st.integers(1, 2), asks=asks)
    def begins(self, slots: int, asks: list[Hold]) -> None:
        self.slots, self.state = slots, w.QueueState(slots=slots)
        self.time, self.offset, self.slack = 1e9, 0.0, 0.0
        # The disk: a snapshot, the journal after it, facts that find no room there, results with their last use.
        self.rows: list[bytes] = []
        self.journal: list[w.Fact] = []
        self.unwritten: list[w.Fact] = []
        self.full = False
        self.fate = ""  # of the next write
        self.results: dict[str, float] = {}
        self.gone: set[str] = set()  # done tasks whose result was missing at a restart
        # The engine: its programs, and those of them that were killed.
        self.runs: dict[str, w.Task] = {}
        self.killed: set[str] = set()
        self.said: dict[str, Frame] = {}
        self.waits: dict[str, Waits] = {}
        self.unready, self.initialized = "not looked at yet", False
        self.need, self.short, self.watched = 0, dict[str, int](), False
        # What was promised.
        self.requests: list[str] = []  # tasks in the order of their requests
        self.asked: set[Hold] = set()  # also without an answer
        self.open: set[Hold] = set()
        self.told: dict[str, w.Task] = {}
        self.used: dict[str, float] = {}
        self.has: dict[str, set[str]] = {license_: set() for license_ in LICENSES}
        self.passed: dict[str, Counter[str]] = {}  # how often each license was served while this one waited
        self.the_program_looks("", 0)
        self.jobs_ask(asks)

    @property
    def now(self) -> float:
        return self.time + self.offset

    # The program

    def happens(self, event: w.Event) -> str:
        """Decide, write and do; return why not."""
        self.time += 0.001
        try:
            facts, commands = DECIDER.decide(self.state, event, self.now)
        except WorkerRefused as refused:
            return refused.code
        gone = [fact.task_id for fact in facts if isinstance(fact, w.Forgotten)]
        assert gone == [command.task_id for command in commands if isinstance(command, w.Erase)]
        kept = [fact for fact in facts if isinstance(fact, w.Kept)]
        if self.full and (kept or self.unwritten):
            if isinstance(event, w.Ask | w.Drop | w.Show | w.Hide):
                return "no_space"
            self.unwritten += kept
        elif kept or self.unwritten:
            fate, self.fate = self.fate, ""
            if fate == "killed before":
                return self.restarts()
            self.journal += [*self.unwritten, *kept]
            self.unwritten = []
            self.promised(event, kept)
            if fate == "killed after":
                return self.restarts()
            if fate == "slow":
                self.goes_on()
        for fact in facts:
            self.becomes(fact)
        for command in commands:
            self.does(command)
        self.check()
        self.check_bounds()
        return ""

    def promised(self, event: w.Event, kept: list[w.Fact]) -> None:
        """What the journal says even if the worker is killed now."""
        for fact in kept:
            if isinstance(fact, w.Changed) and fact.task.status == "queued" and isinstance(event, w.Ask):
                if (name := fact.task.id) not in self.state.line:
                    self.requests = [*(other for other in self.requests if other != name), name]
                self.told.pop(name, None)
            if isinstance(fact, w.Forgotten):
                self.told.pop(fact.task_id, None)

    def goes_on(self) -> None:
        """What happens while a decision is written."""
        for name in self.runs:
            self.reports(name, Frame(7, 9, 77.0))

    def becomes(self, fact: w.Fact) -> None:
        if isinstance(fact, w.Forgotten):
            self.check_forgotten(self.state.tasks[fact.task_id])
        DECIDER.evolve(self.state, fact)
        if isinstance(fact, w.Changed) and not fact.task.unfinished:
            if fact.task.status == "done" and fact.task.id not in self.told:
                self.used[fact.task.id] = self.time
            self.tells(fact.task)
        if isinstance(fact, w.Forgotten):
            self.told.pop(fact.task_id, None)

    def tells(self, task: w.Task) -> None:
        self.told.setdefault(task.id, task)
        self.open = {hold for hold in self.open if hold[0] != task.id}

    def does(self, command: w.Command) -> None:
        match command:
            case w.Run(task):
                self.check_run(task)
                self.runs[task.id] = task
                self.said.pop(task.id, None)
            case w.Kill(name):
                assert name in self.runs.keys() - self.killed, "nothing to kill"
                self.killed.add(name)
            case w.Erase(name):
                assert self.time - self.used.pop(name, 0.0) > HOUR - self.slack, "erased within an hour of its last use"
                self.results.pop(name, None)
            case w.Watch():
                self.watched = True

    def restarts(self) -> str:
        for fact in self.unwritten:  # a next run finds out these ends again
            if isinstance(fact, w.Changed):
                self.told.pop(fact.task.id, None)
        self.unwritten, self.runs, self.killed, self.short, self.passed = [], {}, set(), {}, {}
        self.unready, self.initialized, self.need, self.watched = "not looked at yet", False, 0, False
        state = DECIDER.recover(self.journal, snapshot=self.rows)
        done = {name for name, task in state.tasks.items() if task.status == "done"}
        self.gone |= done - self.results.keys()
        tasks = {name: task for name, task in state.tasks.items() if name not in done or name in self.results}
        used = {name: self.results[name] for name in done & tasks.keys()}
        self.used = {name: at for name, at in self.used.items() if name in used}  # the end of others was not written
        self.state = dataclasses.replace(state, tasks=tasks, used=used, slots=self.slots)
        self.told = {name: task for name, task in self.told.items() if name in tasks or name not in self.gone}
        for task in tasks.values():
            if not task.unfinished:
                self.tells(task)
        self.check()
        return "killed"

    # What is always so

    def able(self) -> list[str]:
        """The tasks that could begin, in the order of their requests."""
        waiting = self.state.line.keys() - self.runs.keys() - self.short.keys()
        return [name for name in self.requests if name in waiting]

    def check_run(self, task: w.Task) -> None:
        assert task.id not in self.runs, "two programs for one task"
        assert len(self.runs) < self.slots, "more programs than slots"
        assert not self.unready, f"begun although the engine is not ready: {self.unready}"
        assert not self.need, "begun although the disk is full"
        assert task.id not in self.short, "begun although the disk has no room for it"
        able, mine = self.able(), task.licenses()
        wanted = {
            license_: {name for name in able if license_ in self.state.tasks[name].licenses()} for license_ in LICENSES
        }
        earlier = set(self.requests[: self.requests.index(task.id)])
        assert not all(wanted[license_] & earlier for license_ in mine), "an earlier request of its license waits"
        for license_ in LICENSES:
            if license_ in mine:
                self.passed.pop(license_, None)
            elif wanted[license_]:
                passed = self.passed.setdefault(license_, Counter())
                passed.update(mine)
                assert min(passed[of] for of in mine) <= 1, f"{license_!r} waits while another is served again"

    def check_forgotten(self, task: w.Task) -> None:
        assert not task.unfinished, "forgotten before its end"
        ended = [other for other in self.state.tasks.values() if not other.unfinished and other.id != task.id]
        alike = [other for other in ended if (other.status == "done") == (task.status == "done")]
        for license_ in task.licenses():
            mine = sum(license_ in other.licenses() for other in alike)
            assert mine >= shares.MAX_FINISHED, "displaced by what others ended"

    def check(self) -> None:
        self.check_journal()
        self.check_work()
        self.check_promises()

    def check_journal(self) -> None:
        kept, memory = DECIDER.recover([*self.journal, *self.unwritten], snapshot=self.rows), self.state.copy()
        w.restart(memory)
        kept.tasks = {name: task for name, task in kept.tasks.items() if name in memory.tasks or name not in self.gone}
        assert kept.tasks == memory.tasks
        assert kept.files == memory.files
        assert list(kept.line) == list(memory.line) == [name for name in self.requests if name in memory.line]

    def check_work(self) -> None:
        state = self.state
        running = {name for name, task in state.tasks.items() if task.status == "running"}
        assert state.busy == {name: run.attempt for name, run in self.runs.items()}
        assert running == self.runs.keys() - self.killed
        for name in running:
            assert state.tasks[name].progress == self.said.get(name, w.NO_PROGRESS), "not what the engine said last"
        waiting = [state.tasks[name] for name in state.line]
        assert list(state.line) == [name for name in self.requests if name in state.line], "another order"
        assert {task.id for task in waiting} == {name for name, task in state.tasks.items() if task.status == "queued"}
        assert {(task.started_at, task.progress, task.error) for task in waiting} <= {(None, w.NO_PROGRESS, None)}
        assert sorted(shares.position(state, name) for name in state.line) == list(range(1, len(waiting) + 1))
        assert shares.turns(state.copy()) == shares.turns(state), "places of before"
        assert not any(shares.position(state, name) for name in state.tasks.keys() - state.line.keys())
        self.waits = {name: place for name, place in self.waits.items() if name in self.runs}
        assert state.waits == self.waits
        self.short = {name: room for name, room in self.short.items() if name in state.line}
        assert state.short == self.short
        if self.unready and state.ready:
            assert state.halted == w.Halt("not_ready", self.unready), "not why nothing begins now"
        assert self.unready or bool(self.need) == (state.halted is not None)
        able = self.able()
        assert not able or self.unready or self.need or len(self.runs) == self.slots, "it waits for nothing"
        wanted = {license_ for name in able for license_ in state.tasks[name].licenses()}
        self.passed = {license_: passed for license_, passed in self.passed.items() if license_ in wanted}

    def check_promises(self) -> None:
        state = self.state
        for name, job, _ in self.open:
            assert name in state.tasks, "the task of a job is lost"
            assert state.tasks[name].unfinished, "a job was not told the end"
            assert job in state.tasks[name].holders, "a job is lost"
        for name, task in self.told.items():
            assert name in state.tasks, "an end is lost"
            now = state.tasks[name]
            assert (now.status, now.error, now.outputs) == (task.status, task.error, task.outputs), "another end"
        for name, task in state.tasks.items():
            held = {(name, job, license_) for license_ in LICENSES for job in task.jobs_of(license_)}
            assert held <= self.asked, "held by a job that does not want it"
            assert held or task.status == "cancelled", "no job wants it"
        for license_, files in state.files.items():
            assert files.keys() <= self.has[license_], "a file that the license never had"
            for task in state.tasks.values():
                opened = [job for job, _ in task.owners if state.opens(task, job, license_)]
                assert not opened or self.has[license_] >= set(map(w.file_name, task.files)), "it never had the inputs"
                assert set(opened) <= task.jobs_of(license_), "opened by a job that never asked"

    def check_bounds(self) -> None:
        state = self.state
        for license_ in LICENSES:
            mine = [task for task in state.tasks.values() if task.licenses() == {license_} and not task.unfinished]
            assert sum(task.status != "done" for task in mine) <= shares.MAX_FINISHED
            used = [shares.last_use(state, task) for task in mine if task.status == "done"]
            assert sum(self.now - at >= HOUR for at in used) <= shares.MAX_FINISHED
            assert all(len(task.jobs_of(license_)) <= shares.MAX_HOLDERS for task in state.tasks.values())
            assert len(state.files.get(license_, {})) <= w.MAX_FILES
        assert (
            sum(task.status == "cancelled" and not task.holders for task in state.tasks.values()) <= shares.MAX_FINISHED
        )
        assert sum(task.unfinished for task in state.tasks.values()) <= shares.MAX_UNFINISHED_IN_ALL
        assert state.used.keys() <= state.tasks.keys()

    # Clients and hub

    @rule(asks=asks)
    def jobs_ask(self, asks: list[Hold]) -> None:
        """By HTTP, with files of their own."""
        for name, job, license_ in asks:
            for file in SPECS[name].inputs.values():
                self.has[license_].add(w.file_name(file))
                if not self.state.has(license_, file):
                    self.happens(w.Show(file, license_))
            self.asks(name, job, license_)

    @rule(asks=asks)
    def the_hub_asks(self, asks: list[Hold]) -> None:
        """With files that are here, from any sender."""
        for ask in asks:
            self.asks(*ask)

    def asks(self, name: str, job: str, license_: str) -> None:
        spec, hold = SPECS[name], (name, job, license_)
        before, kept, mine = (
            self.state.tasks.get(name),
            name in self.results,
            self.state.has(license_, *spec.inputs.values()),
        )
        if kept and mine:
            self.results[name] = self.now
        if before is not None:
            self.may_have(before, license_)
        self.asked.add(hold)
        why = self.happens(w.Ask(spec, job, kept, license_))
        task = self.state.tasks.get(name)
        if why == "queue_full":
            self.check_full(license_, before)
        elif not why and task is None:  # the old result went with this, since the license has not its files
            assert not mine
            self.asks(name, job, license_)
        elif not why:
            assert task is not None
            done = before is not None and before.status == "done"
            assert not (done and kept and mine) or task.status == "done", "made again although the result is here"
            if task.unfinished:
                assert DECIDER.decide(self.state, w.Ask(spec, job, kept, license_), self.now) == ([], []), "new twice"
                self.open.add(hold)
                if before is None or not before.unfinished:
                    assert task.holders == {job}, "also held by jobs of before"
                    assert before is None or task.attempt == before.attempt + 1
                    self.check_admission(license_)
            elif mine:
                assert kept, "the result is not here"
                assert job in task.holders
                self.used[name] = self.time
            else:
                assert before == task, "kept for a license that has not its files"
            if task.status == "running":
                self.passed.pop(license_, None)

    def may_have(self, task: w.Task, *of: str) -> None:
        """Those of these licenses that have the inputs of a task may have its results."""
        for license_ in of:
            if self.has[license_] >= set(map(w.file_name, task.files)):
                self.has[license_] |= {f"{output.blake3}{output.ext}" for output in results_of(task.id)}

    def check_admission(self, license_: str) -> None:
        mine = [task for task in self.state.tasks.values() if license_ in task.licenses()]
        assert sum(task.unfinished for task in mine) <= shares.MAX_UNFINISHED
        done = [self.used[task.id] for task in mine if task.status == "done" and task.id in self.used]
        assert sum(self.time - at < HOUR - self.slack - 1.0 for at in done) < shares.MAX_FRESH

    def check_full(self, license_: str, task: w.Task | None) -> None:
        unfinished = [task for task in self.state.tasks.values() if task.unfinished]
        mine = [task for task in self.state.tasks.values() if license_ in task.licenses()]
        assert (
            len(unfinished) >= shares.MAX_UNFINISHED_IN_ALL
            or sum(task.unfinished for task in mine) >= shares.MAX_UNFINISHED
            or sum(task.status == "done" for task in mine) >= shares.MAX_FRESH
            or (task is not None and len(task.jobs_of(license_)) >= shares.MAX_HOLDERS)
        ), "refused without a reason"

    @precondition(lambda self: self.asked)
    @rule(drops=st.lists(st.tuples(st.integers(0, 11), whose), min_size=1, max_size=3))
    def jobs_drop(self, drops: list[tuple[int, str]]) -> None:
        for at, by in drops:
            pool = [*sorted(self.open), *sorted(self.asked)]
            name, job, license_ = pool[at % len(pool)] if pool else ("0" * 32, "job-9", "")
            if by == "another license":
                license_ = "bob"
            self.drops(name, job, w.ANONYMOUS if by == "the secret" else license_)

    def drops(self, name: str, job: str, license_: str) -> None:
        task, open_before = self.state.tasks.get(name), self.open
        dropped: set[Hold] = set()
        if task is not None and (not license_ or (job, license_) in task.owners):
            # A job with the secret is the same as the job of this id that came with a license.
            others = {of for holder, of in task.owners if holder == job} - {license_} if license_ else set[str]()
            dropped = {(name, job, of) for of in LICENSES if of not in others and (of or not others)}
        self.open = self.open - dropped
        why = self.happens(w.Drop(name, job, license_))
        assert (why == "not_found") == (task is None)
        if why == "no_space":
            self.open = open_before
        elif not why and task is not None and task.unfinished:
            self.asked -= dropped
            left = self.state.tasks[name]
            assert left.unfinished == bool(left.holders), "it stops with the last job, and not before"

    @rule(name=names, what=st.sampled_from(["used", "deleted", "too old"]))
    def a_result_is(self, name: str, what: str) -> None:
        task, at = self.state.tasks.get(name), self.results.get(name)
        if at is None or (what == "too old" and self.now - at < HOUR):
            return
        if what == "used" and task is not None and task.status == "done":
            DECIDER.evolve(self.state, w.Used(name, self.now))
            self.results[name], self.used[name] = self.now, self.time
        elif what != "used":
            del self.results[name]
            self.used.pop(name, None)

    @rule(license_=licenses, count=st.integers(1, 4))
    def a_license_loses_files(self, license_: str, count: int) -> None:
        before = tuple(self.state.files.get(license_, ()))
        if not self.happens(w.Hide(before[:count], license_)):
            self.has[license_] -= set(before[:count])
            assert tuple(self.state.files.get(license_, ())) == before[count:]

    # The engine

    def reports(self, name: str, said: Frame | Waits) -> None:
        DECIDER.evolve(self.state, w.Advanced(name, self.runs[name].attempt, said))
        if name in self.killed:
            return
        self.waits.pop(name, None)
        if isinstance(said, Frame):
            self.said[name] = said
        else:
            self.waits[name] = said

    @precondition(lambda self: self.runs)
    @rule(at=st.integers(0, 1), said=st.sampled_from(SAID), late=st.booleans())
    def the_engine_reports(self, at: int, said: Frame | Waits, *, late: bool) -> None:
        name, run = sorted(self.runs.items())[at % len(self.runs)]
        if late:
            DECIDER.evolve(self.state, w.Advanced(name, run.attempt - 1, said))
        else:
            self.reports(name, said)
        self.check()

    @precondition(lambda self: self.runs)
    @rule(ends=st.lists(st.tuples(st.integers(0, 1), hows), min_size=1, max_size=3))
    def programs_end(self, ends: list[tuple[int, str]]) -> None:
        for at, how in ends:
            if self.runs:
                self.ends(at, how)

    @precondition(lambda self: self.runs)
    @rule(count=st.integers(1, 5))
    def all_goes_well(self, count: int) -> None:
        for _ in range(count):
            if self.runs:
                self.ends(0, "done")
            self.the_program_looks("", 1000)

    def ends(self, at: int, how: str) -> None:
        """It succeeds or fails, also at the moment in which it is killed."""
        name, run = sorted(self.runs.items())[at % len(self.runs)]
        ended = w.Ended(name, run.attempt, error=how, lost=how == "lost")
        if how == "done":
            self.results[name] = self.now
            first, *_ = results = results_of(name)
            ended = w.Ended(name, run.attempt, 5, first.blake3, made=() if run.single else results)
        elif how in ("paused", "alone"):
            halt = w.Halt("paused", "the disk is full", 500)
            ended = w.Ended(name, run.attempt, again=halt, alone=how == "alone")
        elif how == "not_ready":
            ended = w.Ended(name, run.attempt, again=w.Halt("not_ready", "it does not answer"))
        if name not in self.killed:
            self.follows(how, self.state.tasks[name])
        del self.runs[name]
        self.waits.pop(name, None)  # the next attempt may begin in this step, and has said nothing
        killed = name in self.killed
        self.killed.discard(name)
        if not self.happens(ended) and not killed:
            status = self.told[name].status if name in self.told else "queued"
            assert status == {"done": "done", "failed": "failed", "lost": "cancelled"}.get(how, "queued")
        if name not in self.runs:
            assert not self.changed_by(ended), "a second end changes something"
        for name, run in self.runs.items():
            other = w.Ended(name, run.attempt + 1, 5, "another result")
            assert not self.changed_by(other), "the end of another attempt changes something"

    def changed_by(self, event: w.Event) -> list[w.Fact]:
        """What an event would change. Old results do not count: the first event after a restart forgets them."""
        facts = DECIDER.decide(self.state, event, self.now).facts
        return [fact for fact in facts if not isinstance(fact, w.Forgotten)]

    def follows(self, how: str, task: w.Task) -> None:
        if how == "done":
            self.may_have(task, *task.licenses())
        elif how == "alone":
            self.short[task.id] = 500
        elif how == "paused":
            self.need = 500
        elif how == "not_ready":
            self.unready = "it does not answer"
        if how in ("paused", "not_ready"):  # its licenses have not been served
            for passed in self.passed.values():
                for license_ in task.licenses():
                    del passed[license_]

    @rule(fault=st.sampled_from(["", "", "", "no model", "no memory"]), free=st.sampled_from([100, 499, 500]))
    def the_program_looks(self, fault: str, free: int) -> None:
        """The watch at what is missing; else the check of the engine, at which an engine at work is not looked."""
        halt, self.full = self.state.halted, False
        if self.watched and halt is None and not self.state.short:
            self.watched = False
        elif self.watched and (halt is None or halt.word == "paused"):
            self.need = 0 if free >= self.need else self.need
            self.short = {name: room for name, room in self.short.items() if room > free}
            self.happens(w.Room(free))
        elif self.watched or not self.state.busy:
            before, self.initialized, self.unready = self.initialized, not fault, fault
            if fault:
                self.happens(w.Unready(fault))
            elif not before or halt is not None:
                self.happens(w.Ready())

    # Disk, clocks and kills

    @rule(how=st.sampled_from(["full", "killed before", "killed after", "slow", "cut"]))
    def the_journal_is(self, how: str) -> None:
        """Full until there is room again; or what happens at its next write."""
        if how == "cut" and not self.unwritten:
            self.rows, self.journal = list(DECIDER.snapshot(self.state)), []
        self.full, self.fate = self.full or how == "full", how

    @rule(
        seconds=st.sampled_from([1.0, 600.0, HOUR]), by=st.sampled_from([0.0, 0.0, 4.0, -4.0, HOUR, -HOUR, 1e6, -1e6])
    )
    def time_passes(self, seconds: float, by: float) -> None:
        """The clock is also set, which the program notices unless it is a small correction."""
        self.time, self.offset = self.time + seconds, self.offset + by
        if abs(by) < 5.0:
            self.slack += abs(by)
        else:
            self.results = {name: min(at + by, self.now) for name, at in self.results.items()}
            if self.happens(w.ClockMoved(by)):
                return
            times = [at for task in self.state.tasks.values() for at in (task.created_at, task.last_known)]
            assert max(times, default=0.0) <= self.now + 1.0, "a time in the future"

    @rule(down=st.sampled_from([1.0, HOUR]), by=st.sampled_from([0.0, 0.0, 1e6, -1e6]))
    def the_worker_is_killed(self, down: float, by: float) -> None:
        self.time, self.offset = self.time + down, self.offset + by
        if by:  # the dates of the results say nothing then
            self.used = {}
        self.restarts()
        self.the_program_looks("", 0)

    def teardown(self) -> None:
        """After all of this, a healthy engine and a disk with room bring all tasks to their ends."""
        try:
            if hasattr(self, "state"):
                self.recovers()
        finally:
            self.limits.close()

    def recovers(self) -> None:
        self.full, self.fate = False, ""
        self.all_goes_well(60)
        assert not self.open
        assert not self.watched
        assert (self.state.line, self.state.busy, self.state.halts) == ({}, {}, {})


TestAnyOrder = World.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
