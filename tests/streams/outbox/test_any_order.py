"""Requests, pipelines, receivers, kills and the clock in any order: what a daemon owes to those who gave it jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support.streams.submitting import submitting
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.outbox import chains, outbox
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import TWINS, Entry, OutboxState, job_of, outcome_of
from wakestream.streams.webhooks import WebhookOwed, WebhookSettled

OPEN_MOST, ENDED_MOST, CUT_AT = 5, 2, 5
NUMBERS = st.integers(0, 9)
MORE = st.fixed_dictionaries({"priority": st.integers(0, 1), "batch": st.sampled_from(["", "rows"])})
LOOKS = [f.FileStat("/in/a.mp4", 10, 1), f.FileStat("/in/a.mp4", 10, 2), f.FileStat("/in/b.mp4", 10, 1)]
CALLERS = [None, *(f.Caller("t", webhook="https://x", events=(event,)) for event in ("start", "output", "completed"))]
CONTENTS = [("00",), ("22",)]
WORKER = e.Online("http://gpu:8383")
TASK = e.Submitted(WORKER, "task-1")


def read_as(digest: str, mtime_ns: int) -> e.Fingerprinted:
    return e.Fingerprinted((e.Fingerprint(Path("/in"), 10, mtime_ns, {"blake3": digest}),) * 2)


SAID: list[e.JobEvent] = [
    e.Queued(), e.Granted("online", 1.0), e.Downloading(0, 9), read_as("00", 1), read_as("22", 1), read_as("00", 2),
]  # fmt: skip
NO_RESULT: list[e.Outcome] = [e.Failed("no luck", "task_failed"), e.TimedOut("online", 60.0), e.Cancelled()]


def is_open(entry: Entry | None) -> bool:
    return entry is not None and entry.ended is None


def about(decision: f.OutboxDecision) -> list[Any]:
    """What is decided about what, without times."""
    return [(type(each), each.job, getattr(each, "status", None)) for each in (*decision.facts, *decision.commands)]


class World(RuleBasedStateMachine):
    """Clients, pipelines, hub, receivers of webhooks, disk and clock of one daemon."""

    @initialize(webhook=st.booleans(), jobs=st.integers(0, 3))
    def begins(self, *, webhook: bool, jobs: int) -> None:
        self.now, self.webhook, self.slow = 1e6, webhook, False
        self.history: list[f.OutboxFact] = []  # all facts that were written
        self.rows, self.journal = list[bytes](), list[f.OutboxFact]()  # what of them is on the disk
        self.unwritten: list[f.OutboxDecision] = []
        self.asked: list[f.Submitting] = []
        self.accepted: dict[str, f.JobAccepted] = {}  # by a client that knows it
        self.ends: dict[str, f.JobEnded] = {}  # that were written
        self.files = set[str]()  # results
        self.starts()
        for look in LOOKS[:jobs]:
            self.a_job_is_submitted(look, None, {})

    def starts(self) -> None:
        """The program starts on what the disk has."""
        self.unwritten.clear()
        self.running, self.stopping, self.tasks = dict[str, str](), set[str](), dict[str, str]()
        self.posting: dict[str, WebhookOwed] = {}
        self.recovered = self.read_disk()
        self.state = self.read_disk()
        _, commands = self.happens(f.DaemonStarted())
        starts = [command.job for command in commands if isinstance(command, f.Start | f.Hold | f.CancelNotice)]
        assert starts == [*self.state.queue], "in the users' order"
        told = [(command.job, command.cancelled) for command in commands if isinstance(command, f.Release)]
        ended = [(job, entry.state) for job, entry in self.state.jobs.items() if entry.ended and not entry.released]
        assert told == [(job, state in ("cancelled", "timed_out")) for job, state in ended], "the hub learns each end"

    def read_disk(self) -> OutboxState:
        facts = [fact for decision in self.unwritten for fact in decision.facts]
        return outbox.DECIDER.recover([*self.journal, *facts], self.empty(), self.rows)

    # The program, as in adapters/daemon/outbox.py

    def happens(self, event: f.OutboxEvent) -> f.OutboxDecision:
        self.now += 1.0
        forgettable = self.forgettable()
        decision = outbox.DECIDER.step(self.state, event, self.now)
        later = outbox.DECIDER.step(self.recovered, event, self.now + 1e5)
        assert about(decision) == about(later), "it depends on the clock, or on whether the program was restarted"
        self.check_facts(decision, forgettable)
        self.unwritten.append(decision)
        self.check_state()
        if not self.slow:
            self.the_disk_writes()
        return decision

    def the_disk_writes(self) -> None:
        self.slow = True
        while self.unwritten:
            written, self.unwritten = self.unwritten, []
            facts = [self.written(fact) for decision in written for fact in decision.facts]
            self.history += facts
            self.journal += facts
            if len(self.journal) > CUT_AT:
                self.rows, self.journal = list(outbox.DECIDER.snapshot(self.state)), []
            for fact in facts:
                if isinstance(fact, f.JobEnded):
                    self.ends[fact.job] = fact
                elif isinstance(fact, f.JobForgotten):
                    self.ends.pop(fact.job, None)
            for decision in written:
                for command in decision.commands:
                    self.executes(command)
        self.slow = False
        self.check_program()

    def written(self, fact: f.OutboxFact) -> f.OutboxFact:
        """As it is read again."""
        return msgspec.json.decode(msgspec.json.encode(fact), type=type(fact))

    def executes(self, command: f.OutboxCommand) -> None:
        match command:
            case f.Start(job):
                assert job not in self.running, "started twice"
                entry = self.state.jobs.get(job)
                if entry is None or entry.state != "open":  # cancelled in the meantime
                    return
                run = job_of(entry, self.state.jobs)
                missing = [name for name in entry.accepted.sources if str(run.inputs[name]) not in self.files]
                assert not missing, "started without the results that it needs"
                self.running[job] = entry.stage.task if entry.stage is not None else ""
            case f.Stop(job) if job in self.running:
                assert job not in self.stopping, "stopped twice"
                self.stopping.add(job)
            case f.Stop(job):
                self.happens(f.Happened(job, e.Cancelled()))
            case f.CancelNotice(job):
                self.stopping.add(job)
            case f.Notify(_, pending):
                assert pending.delivery not in self.posting, "posted twice"
                self.posting[pending.delivery] = pending
            case f.Answer(_, 201, job) if job in self.state.jobs:
                self.accepted[job] = self.state.jobs[job].accepted

    # Promises

    def forgettable(self) -> list[str]:
        """The jobs that may be forgotten, the first that ended first."""
        facts = [*self.history, *(fact for decision in self.unwritten for fact in decision.facts)]
        ended = dict[str, None]()
        for fact in facts:
            if isinstance(fact, f.JobEnded):
                ended[fact.job] = None
            elif isinstance(fact, f.JobForgotten):
                del ended[fact.job]
        needed = {job for entry in self.state.jobs.values() if is_open(entry) for job in entry.accepted.after}
        shown = {pending.job for pending in self.state.pending.values() if not pending.news}
        return [job for job in ended if job not in needed | shown]

    def check_facts(self, decision: f.OutboxDecision, forgettable: list[str]) -> None:
        facts, commands = decision
        gone = [fact.job for fact in facts if isinstance(fact, f.JobForgotten)]
        needed = {job for fact in facts if isinstance(fact, f.JobAccepted) for job in fact.after}
        forgettable = [job for job in forgettable if job not in needed]
        assert gone == forgettable[: len(gone)], "forgot a job that is needed, or not the first that ended"
        for job in gone:
            self.accepted.pop(job, None)
            self.ends.pop(job, None)
        ends = [fact for fact in facts if isinstance(fact, f.JobEnded)]
        told = [command for command in commands if isinstance(command, f.Tell)]
        assert [(end.job, outcome_of(end)) for end in ends] == [(tell.job, tell.outcome) for tell in told]
        for end in ends:
            assert end.code != chains.FAILED or not self.state.jobs[end.job].cancelling, "a cancel was carried out"
            assert end.mtime_ns == (7 if end.outcome == "done" else 0), "the date of its result"
            caller = self.state.jobs[end.job].accepted.caller
            events = caller.events if caller is not None else ()
            due = [self.webhook and end.outcome != "cancelled"]
            due.append("completed" in events or ("output" in events and end.outcome == "done"))
            owed = [fact for fact in facts if isinstance(fact, WebhookOwed) and fact.job == end.job]
            assert len(owed) == sum(due), "a webhook for each end that makes one due"

    def check_state(self) -> None:
        state, entries = self.state, list(self.state.jobs.values())
        opened = [entry.accepted for entry in entries if is_open(entry)]
        self.recovered = self.read_disk()
        assert self.recovered == state
        for name in ("jobs", "queue", "ended", "pending"):
            assert list(getattr(self.recovered, name)) == list(getattr(state, name))
        assert len(opened) <= OPEN_MOST
        assert state.outputs == {path.casefold(): job.job for job in opened for path in job.outputs.values()}
        assert {*state.queue} == {job.job for job in opened}
        for job, accepted in self.accepted.items():
            assert state.jobs[job].accepted == accepted, "an accepted job was lost"
        for job, ended in self.ends.items():
            assert state.jobs[job].ended == ended, "an end is final"
        self.check_twins(entries)

    def check_twins(self, entries: list[Entry]) -> None:
        """A job finds the first ones of the same work, whose results it may use."""
        before = list[tuple[Entry, Any, Any, Any]]()

        def first(found: Iterable[tuple[Entry, Any, Any, Any]]) -> list[Entry]:
            return [entry for entry, *_ in islice(found, TWINS) if entry.state != "cancelling"]

        for entry in entries:
            sizes, files, content = entry.sizes, entry.files, entry.content
            if is_open(entry):
                twins, state = [twin for twin in before if twin[1] == sizes], self.state
                assert state.of_same_files(entry) == first(twin for twin in twins if twin[2] == files)
                for key in CONTENTS:
                    same = first(twin for twin in before if twin[3] == key)
                    assert state.of_content(entry, key) == [twin for twin in same if twin.sizes == sizes]
                unread = first(twin for twin in twins if twin[3] is None)
                assert state.of_same_sizes(entry) == [twin for twin in unread if twin.files != files]
            if entry.state in ("open", "cancelling", "done"):
                before.append((entry, sizes, files, content))

    def check_program(self) -> None:
        """All is written, and all commands were executed."""
        for job, entry in self.state.jobs.items():
            if entry.state == "open":
                waits = any(is_open(self.state.jobs.get(before)) for before in entry.accepted.after)
                assert (job in self.running) != waits, "it runs, or waits for another job"
            elif entry.state == "cancelling":
                assert job in self.stopping, "a cancel is carried out"
        assert all(is_open(self.state.jobs.get(job)) for job in self.running), "works for a job that has ended"
        for job, task in self.running.items():
            stage = self.state.jobs[job].stage
            assert task == (stage.task if stage is not None else ""), "a restart finds its task"
        due = [delivery for delivery, owed in self.state.pending.items() if self.webhook or not owed.news]
        assert {*self.posting} == {*due}
        assert all(owed.news or owed.job in self.state.jobs for owed in self.posting.values()), "nothing to post"

    def empty(self) -> OutboxState:
        return OutboxState(open_most=OPEN_MOST, ended_most=ENDED_MOST, webhook=self.webhook, place=str.casefold)

    def answer(self, event: f.OutboxEvent) -> int:
        """The status of the answer to a request."""
        decision = self.happens(event)
        (answer,) = (command for command in decision.commands if isinstance(command, f.Answer))
        assert bool(answer.code) == (answer.status >= 400)
        return answer.status

    def known(self, number: int) -> str:
        """One of the jobs, or none that there is."""
        names = [*self.state.jobs]
        return names[number % len(names)] if names and number < 9 else "unknown"

    # Clients

    def asks(
        self, job: str, inputs: Mapping[str, f.FileStat], output: str = "", *, arrives: bool = True, **more: Any
    ) -> None:
        """A request was checked against the jobs of now. It `arrives` now, or later."""
        inputs = {**inputs, **more.pop("files", {})}
        job = job or f"job-{len(self.asked)}"
        output = output or f"/out/{job}.mp4"
        self.asked.append(submitting(1, job, inputs, {"out": output, "log": f"{output}.log"}, "copy", **more))
        if arrives:
            self.a_request_arrives(-1)

    @rule(look=st.sampled_from(LOOKS), caller=st.sampled_from(CALLERS), more=MORE)
    def a_job_is_submitted(self, look: f.FileStat, caller: f.Caller | None, more: dict[str, Any]) -> None:
        self.asks("", {"video": look}, caller=caller, **more)

    @precondition(lambda self: self.state.jobs)
    @rule(
        after=st.lists(NUMBERS, min_size=1, max_size=3),
        uses=st.sampled_from(["", "out", "log"]),
        arrives=st.sampled_from([True, True, False]),
        more=MORE,
    )
    def a_job_follows_others(self, after: list[int], uses: str, more: dict[str, Any], *, arrives: bool) -> None:
        names = dict.fromkeys(map(self.known, after))
        sources = {name: f"{name}:{uses}" for name in names if uses}
        with suppress(WrongInput):
            self.asks("", {"video": LOOKS[0]}, **self.found(names, sources), arrives=arrives, **more)

    def found(self, after: Iterable[str], named: Mapping[str, str]) -> dict[str, Any]:
        """The jobs that a request names, and the files of their results, as they are now."""
        find = partial(chains.source, self.state, "inputs")
        waits, files, sources = [find(name)[0] for name in after], dict[str, f.FileStat](), dict[str, str]()
        for name, source in named.items():
            job, path, there = find(source)
            waits.append(job)
            files[name], sources[name] = f.FileStat(path, 5 if there else 0, 1), f"{job}:{source.split(':')[1]}"
        return {"after": tuple(dict.fromkeys(waits)), "sources": sources, "files": files}

    @rule(
        job=st.sampled_from(["", "a", "b"]), output=st.sampled_from(["", "/out/a.mp4", "/OUT/a.mp4"]), more=MORE,
        caller=st.sampled_from(CALLERS),
    )  # fmt: skip
    def a_name_is_used_again(self, job: str, output: str, caller: f.Caller | None, more: dict[str, Any]) -> None:
        self.asks(job, {"video": LOOKS[0]}, output, caller=caller, **more)

    @precondition(lambda self: any(entry.ended and entry.state != "done" for entry in self.state.jobs.values()))
    @rule(number=NUMBERS)
    def a_job_is_tried_again(self, number: int) -> None:
        failed = [entry.accepted for entry in self.state.jobs.values() if entry.ended and entry.state != "done"]
        job = failed[number % len(failed)]
        with suppress(WrongInput):  # a result may be known no more
            found = self.found((before for before in job.after if before in self.state.jobs), job.sources)
            self.asks("", job.inputs, job.outputs["out"], **found, retry_of=job.job, batch=job.batch)

    @precondition(lambda self: self.asked)
    @rule(number=NUMBERS)
    def a_request_arrives(self, number: int) -> None:
        """Late, or once more."""
        event = self.asked[number % len(self.asked) if number >= 0 else -1]
        asked, jobs, refused = event.asked, self.state.jobs, set[int]()
        known, before = jobs.get(asked.job), [*self.state.queue]
        if known is not None:
            same = (
                all(
                    getattr(known.accepted, name) == getattr(asked, name) for name in ("outputs", "params", "task_type")
                )
                and known.paths == Entry(asked).paths
            )
            refused = {200 if same else 409}
        else:
            if any(path.casefold() in self.state.outputs for path in asked.outputs.values()):
                refused.add(409)
            for job in asked.after:
                if job not in jobs:
                    refused.add(404)
                elif (ended := jobs[job].ended) is not None:
                    lacks = any(f"{job}:{name}" in asked.sources.values() for name in ended.absent)
                    refused |= {409} if lacks or ended.outcome != "done" else set()
            if len(before) >= OPEN_MOST:
                refused.add(429)
        status = self.answer(event)
        assert status in (refused or {201})
        assert [*self.state.queue][: len(before)] == before
        if status == 201:
            assert len(self.forgettable()) < ENDED_MOST, "the history is limited"

    @precondition(lambda self: self.state.jobs)
    @rule(number=NUMBERS)
    def a_cancel_is_requested(self, number: int) -> None:
        job = self.known(number)
        entry = self.state.jobs.get(job)
        expected = 404 if entry is None else {"open": 202, "cancelling": 202, "cancelled": 200}.get(entry.state, 409)
        assert self.answer(f.Cancelling(1, job)) == expected

    @precondition(lambda self: len(self.state.queue) > 1)
    @rule(number=NUMBERS, place=NUMBERS, where=st.sampled_from(["before", "after", "first", "last"]))
    def a_job_is_moved(self, number: int, place: int, where: str) -> None:
        jobs, names = self.state.jobs, [*self.state.queue, *[*self.state.ended][:1], "unknown"]
        job, other = names[number % len(names)], names[place % len(names)]
        turns = self.waiting_turns()
        other = other if where in ("before", "after") else ""
        known = job in jobs and (not other or other in jobs)
        status = self.answer(f.Moving(1, job, **({where: other} if other else {"first": where == "first"})))
        assert status == (404 if not known else 200 if job in turns else 409)
        if status == 200 and job != other:
            turns.remove(job)
            at = turns.index(other) + (where == "after") if other in turns else 0
            turns.insert(len(turns) if where == "last" else at, job)
        assert self.waiting_turns() == turns

    def waiting_turns(self) -> list[str]:
        """The jobs that wait, in the order of their turns."""
        entries = [self.state.jobs[job] for job in self.state.in_turn()]
        waiting = (entry for entry in entries if not entry.cancelling and not (entry.stage and entry.stage.task))
        return [entry.accepted.job for entry in waiting]

    # Pipelines, the hub and receivers

    @precondition(lambda self: self.running)
    @rule(number=NUMBERS)
    def a_worker_takes_a_job(self, number: int) -> None:
        job = [*self.running][number % len(self.running)]
        self.running[job] = TASK.task_id
        self.happens(f.Happened(job, TASK))

    @precondition(lambda self: self.running)
    @rule(number=NUMBERS, said=st.sampled_from(SAID))
    def a_pipeline_goes_on(self, number: int, said: e.JobEvent) -> None:
        job = [*self.running][number % len(self.running)]
        if isinstance(said, e.Queued | e.Granted):
            self.running[job] = ""
        self.happens(f.Happened(job, said))

    def stops_working(self, number: int) -> str:
        """The job whose pipeline ends."""
        job = [*self.running][number % len(self.running)]
        del self.running[job]
        self.stopping.discard(job)
        return job

    @precondition(lambda self: self.running)
    @rule(number=NUMBERS, renamed=st.booleans(), log=st.booleans())
    def a_pipeline_is_done(self, number: int, *, renamed: bool = False, log: bool = True) -> None:
        """Its results may have other names than asked for, and the log may be absent."""
        outputs = self.state.jobs[job := self.stops_working(number)].accepted.outputs
        made = {name: path + renamed * f".{self.now}" for name, path in outputs.items() if log or name == "out"}
        self.files |= {*made.values()}
        files = tuple(e.ResultFile(name, Path(path), 5) for name, path in made.items())
        self.happens(f.Happened(job, e.Done(files[0].path, 5, files, () if log else ("log",)), 7))

    @precondition(lambda self: self.running)
    @rule(number=NUMBERS, end=st.sampled_from(NO_RESULT))
    def a_pipeline_fails(self, number: int, end: e.Outcome) -> None:
        self.happens(f.Happened(self.stops_working(number), end))

    @precondition(lambda self: self.stopping - self.running.keys())
    @rule()
    def a_cancel_notice_is_sent(self) -> None:
        job = min(self.stopping - self.running.keys())
        self.stopping.remove(job)
        self.happens(f.Happened(job, e.Cancelled()))

    @rule(number=NUMBERS, said=st.sampled_from([TASK, *NO_RESULT, e.Done(Path("/x"), 1)]))
    def a_pipeline_is_late(self, number: int, said: e.JobEvent) -> None:
        if not is_open(self.state.jobs.get(job := self.known(number))):
            assert self.happens(f.Happened(job, said)) == ([], []), "an end is final"

    @rule(number=NUMBERS)
    def the_hub_confirms(self, number: int) -> None:
        """Also an end before it is one, late, or twice."""
        entry = self.state.jobs.get(job := self.known(number))
        due = entry is not None and entry.released is None and entry.state != "open"
        facts, _ = self.happens(f.Released(job))
        assert facts == [f.ReleaseConfirmed(job, self.now)] * due

    @precondition(lambda self: self.posting)
    @rule(number=NUMBERS, reason=st.sampled_from(["", "gone"]))
    def a_webhook_is_settled(self, number: int, reason: str) -> None:
        delivery = [*self.posting][number % len(self.posting)]
        del self.posting[delivery]
        (fact,), _ = self.happens(WebhookSettled(delivery, reason))
        assert isinstance(fact, f.WebhookGivenUp if reason else f.WebhookDelivered)
        assert self.happens(WebhookSettled(delivery, reason)) == ([], [])

    # Disk, process and clock

    @precondition(lambda self: not self.slow)
    @rule()
    def the_disk_is_slow(self) -> None:
        self.slow = True

    @precondition(lambda self: self.slow)
    @rule()
    def the_disk_is_quick(self) -> None:
        self.the_disk_writes()

    @rule(webhook=st.booleans())
    def the_daemon_is_killed(self, *, webhook: bool) -> None:
        self.webhook = webhook
        self.starts()

    @rule(by=st.sampled_from([-3600.0, 3600.0]))
    def the_clock_is_set(self, by: float) -> None:
        self.now += by

    def teardown(self) -> None:
        """After all of this, each job has an end, each webhook is posted, and nothing is left of them."""
        self.the_disk_writes()
        for _ in range(2 * OPEN_MOST):
            if self.stopping - self.running.keys():
                self.a_cancel_notice_is_sent()
            if self.running:
                self.a_pipeline_is_done(0)
        assert not self.state.queue
        self.the_daemon_is_killed(webhook=True)
        while self.posting:
            self.a_webhook_is_settled(0, "")
        for job in self.state.jobs:
            self.happens(f.Released(job))
        assert self.happens(f.DaemonStarted()) == ([], [])
        for job in [*self.state.jobs]:
            outbox.DECIDER.evolve(self.state, f.JobForgotten(job, self.now))
        assert self.state == self.empty()


TestAnyOrder = World.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
