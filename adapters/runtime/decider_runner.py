"""The runner of a decider: it decides on each event, journals the facts, and then executes the commands.

Hub, monitor, worker and daemon use it. Facts are on the disk before a command is executed that depends on them. While
the disk is full, the journal is tried again until there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from loguru import logger

from wakestream.adapters.runtime.tasks import cannot_continue, end
from wakestream.operators.model.errors import JournalError, NoSpace, WakestreamError
from wakestream.operators.model.ports import Journal
from wakestream.streams.decider import Decider, Decision

S = TypeVar("S")
E = TypeVar("E")
F = TypeVar("F")
C = TypeVar("C")

MAX_PENDING = 10_000
"""Decisions that may wait for the journal; with more, a program takes no further events from outside."""

RETRY_AFTER = 0.5
"""Seconds until the next attempt to write to a full disk."""

STOP_WITHIN = 0.5
"""Seconds for the last commit of a program that stops."""

WARN_EVERY = 60.0
"""Seconds between two log lines at ERROR about the same full disk."""


def _nothing(*_: Any) -> None:
    """The default of a hook."""


@dataclass(slots=True, eq=False)
class _Turn(Generic[E, F, C]):
    """An event on its way: `durable` facts to write, `commands` to execute then, and `facts` to apply in between."""

    event: E
    now: float
    durable: list[Any]
    commands: list[C]
    facts: Sequence[F] = ()
    done: asyncio.Future[None] | None = None

    def end(self, error: Exception | None = None) -> None:
        """Answer the caller that waits. An error that no caller waits for is raised."""
        if self.done is None:
            if error is not None:
                raise error
        elif not self.done.done():
            self.done.set_result(None) if error is None else self.done.set_exception(error)


class DeciderRunner(Generic[S, E, F, C]):
    """Runs a decider on a journal, in one event loop.

    By default a decision changes the state at once and its facts are committed in a group with those of other events:
    the programs with many events (hub, daemon) need one sync for hundreds of them. With `journal_first` each decision
    is committed alone and changes the state afterwards: the worker reads its state to answer calls, and a call that
    finds no space must leave nothing behind.

    While the disk is full, a decision waits with its commands. `when_full` can decide otherwise for each event: it gets
    the event, its durable facts with its commands, and the error; it returns what to write later and what to execute
    now, or None to wait. With `journal_first` it may also raise the error, which refuses the event. The hub waits, the
    daemon refuses new jobs, the worker refuses calls, and the monitor continues, because it must start a machine that
    is needed.

    Args:
        program: The name of the program in the log, as "the hub".
        decider: Decides on the events.
        state: The state at the start.
        journal: Stores durable facts; None stores nothing.
        execute: Called with each command when its facts are on the disk, in order.
        flush: Called when all commands of a commit were executed.
        clock: Returns the time of an event for the decider.
        durable: Returns what to write of the facts of a decision; by default all.
        on_decision: Called with event, decision and time.
        on_fact: Called with each fact after it changed the state.
        when_full: See above; by default every decision waits.
        journal_first: See above.
        needs_journal: Whether a broken journal ends the program; otherwise it is treated like a full disk.
        snapshot: Returns the rows to which the journal is cut down; by default those of the decider.

    Attributes:
        state: What the program knows. Only the runner changes it.
        failed: Has an error when the program cannot continue or is stopping.

    Example:
        >>> runner = DeciderRunner("the counter", counter, [], journal, print, clock=time.time)
        >>> runner.happen(5)
    """

    def __init__(
        self,
        program: str,
        decider: Decider[S, E, F, C],
        state: S,
        journal: Journal[Any] | None,
        execute: Callable[[C], None],
        *,
        clock: Callable[[], float],
        durable: Callable[[list[F]], list[Any]] = lambda facts: facts,
        flush: Callable[[], None] = _nothing,
        on_decision: Callable[[E, Decision[F, C], float], None] | None = None,
        on_fact: Callable[[F], None] = _nothing,
        when_full: Callable[[E, Decision[Any, C], WakestreamError], Decision[Any, C] | None] | None = None,
        journal_first: bool = False,
        needs_journal: bool = True,
        snapshot: Callable[[], Iterable[bytes]] | None = None,
    ) -> None:
        self.state = state
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._program, self._decider, self._journal = program, decider, journal
        self._do, self._flush = execute, flush
        self._clock, self._durable, self._on_decision, self._on_fact = clock, durable, on_decision, on_fact
        self._when_full, self._journal_first, self._needs_journal = when_full, journal_first, needs_journal
        self._pending: list[_Turn[E, F, C]] = []
        self._held: list[_Turn[E, F, C]] = []  # in the commit that runs, or waiting for space
        self._busy = self._stopping = False
        self._full: WakestreamError | None = None
        self._warn_at = self._retry_at = -math.inf
        self._task: asyncio.Task[None] | None = None
        self._came, self._committed = asyncio.Event(), asyncio.Event()
        self._snapshot = snapshot or (lambda: decider.snapshot(self.state))
        if journal is not None:
            journal.snapshot_includes_append = not journal_first
        self._confirm = journal.confirm if journal is not None else None

    # Events in

    def happen(self, event: E, now: float | None = None) -> None:
        """Decide on an event; its commands follow when its facts are on the disk. Raises what the decider raises."""
        now = self._clock() if now is None else now
        if self.failed.done():
            return
        if self._journal_first:
            self._add(_Turn(event, now, [], []))
            return
        facts, commands = self._step(event, now)
        durable = self._durable(facts)
        if durable or (commands and (self._busy or self._confirm is not None)):
            self._add(_Turn(event, now, durable, commands))
        elif commands:
            self._execute_now(commands)

    def report(self, event: E, now: float | None = None) -> None:
        """As `happen`, for an event without which the program cannot continue: an error of the decider ends it."""
        try:
            self.happen(event, now)
        except Exception as error:
            self.fail(error)

    async def perform(self, event: E) -> None:
        """Decide on an event and return when its commands were executed. Needs `journal_first`.

        Raises:
            NoSpace: `when_full` refused the event.
            JournalError: The journal is broken, or the program is stopping.
        """
        if self.failed.done():
            self.failed.result()
        done = asyncio.get_running_loop().create_future()
        self._add(_Turn(event, self._clock(), [], [], done=done))
        await done

    def apply(self, fact: F) -> None:
        """Change the state by a fact; for facts that are not journaled also without a decision."""
        self._decider.evolve(self.state, fact)
        self._on_fact(fact)

    @property
    def crowded(self) -> bool:
        """Whether too many decisions wait for the journal."""
        return len(self._pending) + len(self._held) >= MAX_PENDING

    async def room(self) -> None:
        """Return when the runner is not `crowded`."""
        await self._until(lambda: not self.crowded)

    async def settled(self) -> None:
        """Return when the commands of all events so far were executed."""
        await self._until(lambda: not any(turn.commands for turn in (*self._held, *self._pending)))

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so() and not self.failed.done():
            self._committed.clear()
            await self._committed.wait()

    # The end

    async def ended(self) -> None:
        """Return when the program is stopped. Raises the reason when it cannot continue, as a broken journal."""
        await asyncio.wait((self.failed,))
        if not self._stopping:
            self.failed.result()

    def fail(self, error: Exception) -> None:
        """End the program with this error: no further command is executed."""
        if self.failed.done():
            return
        error = cannot_continue(self._program, error)
        self.failed.set_exception(error)
        self.failed.exception()  # retrieved, so that asyncio does not log it once more
        self._committed.set()
        for turn in (*self._held, *self._pending):
            if turn.done is not None:
                turn.end(error)

    async def close(self) -> None:
        """Stop. Facts that wait are written, unless the disk is full, but their commands are not executed."""
        working = not self.failed.done() and self._full is None
        self._stopping = not self.failed.done()
        self.fail(JournalError(f"{self._program} is stopping"))
        writing = [] if self._task is None else [self._task]
        if working and writing:
            # The commit that runs is not repeated: a fact must not be there twice.
            with contextlib.suppress(WakestreamError, TimeoutError):
                async with asyncio.timeout(STOP_WITHIN):
                    await asyncio.wait(writing)
                    if not self._held:
                        self._held, self._pending = self._pending, []
                        await self._write()
        await end(*writing)

    # Commits

    def _step(self, event: E, now: float) -> Decision[F, C]:
        decision = self._decider.begin(self.state, now)
        try:
            self._decider.step(self.state, event, now, decision)
        except Exception:
            if durable := self._durable(decision.facts):  # the state has them
                self._add(_Turn(event, now, durable, []))
            raise
        if self._on_decision is not None:
            self._on_decision(event, decision, now)
        for fact in decision.facts:
            self._on_fact(fact)
        return decision

    def _decide(self, event: E, now: float) -> Decision[F, C]:
        decision = self._decider.decide(self.state, event, now)
        if self._on_decision is not None:
            self._on_decision(event, decision, now)
        return decision

    def _add(self, turn: _Turn[E, F, C]) -> None:
        self._pending.append(turn)
        if self._full is not None:
            self._came.set()
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = True
        self._task = asyncio.create_task(self._work(), name=f"decider of {self._program}")

    def _execute(self, commands: Iterable[C]) -> None:
        for command in commands:
            self._do(command)
        self._flush()

    def _execute_now(self, commands: Sequence[C]) -> None:
        """Execute commands that depend on no fact. Commands of events that happen meanwhile follow."""
        self._busy = True
        try:
            self._execute(commands)
        finally:
            self._busy = False
            if self._pending:
                self._begin()

    async def _work(self) -> None:
        try:
            while (self._pending or self._held) and not self.failed.done():
                await self._commit(self._next())
        except Exception as error:
            self.fail(error)
        else:
            self._busy = False

    def _next(self) -> list[_Turn[E, F, C]]:
        """What the next commit takes in: all decisions, or with `journal_first` the next one."""
        if not self._journal_first:
            turns, self._pending = self._pending, []
            return turns
        if not self._pending or any(turn.facts for turn in self._held):  # the state is not up to date
            return []
        turn = self._pending.pop(0)
        try:
            decision = self._decide(turn.event, turn.now)
        except Exception as error:
            turn.end(error)
            return []
        turn.facts, turn.durable, turn.commands = decision.facts, self._durable(decision.facts), decision.commands
        return [turn]

    async def _commit(self, new: Sequence[_Turn[E, F, C]]) -> None:
        waits = self._held and asyncio.get_running_loop().time() < self._retry_at
        if self._full is not None and waits and not any(turn.done for turn in new):  # a caller gets no old refusal
            self._held += self._left(new, self._full)
        else:
            self._held += new
            try:
                await self._write()
            except (NoSpace, JournalError) as error:
                if self._needs_journal and isinstance(error, JournalError):
                    raise
                self._on_full_disk(error)
                before = self._held[: len(self._held) - len(new)]
                self._held = [*before, *self._left(new, error)]
            else:
                self._finish()
                return
        self._committed.set()  # or its commands were executed without that
        await self._pause()

    async def _write(self) -> None:
        """Append the facts of all decisions. On a full disk those of the first one show whether there is room."""
        turns = [turn for turn in self._held if turn.durable]
        if self._journal is None or not turns:
            if self._confirm is not None and self._held:
                await self._confirm()
            return
        # After a failed append the state has facts that are neither in the journal nor in the next append.
        self._journal.snapshot = self._snapshot if self._full is None else None
        if self._full is not None:
            await self._journal.append(turns[0].durable)
            turns[0].durable = []
        if facts := [fact for turn in turns for fact in turn.durable]:
            await self._journal.append(facts)
        if self._full is not None:
            self._full, self._warn_at = None, -math.inf
            logger.info("there is room on the disk again; {} continues", self._program)

    def _finish(self) -> None:
        """All facts so far are on the disk."""
        turns, self._held = self._held, []
        self._committed.set()
        if self.failed.done():
            return
        if self._journal_first:
            self._apply_late(turns)
        self._execute(command for turn in turns for command in turn.commands)
        if self._journal_first:
            for turn in turns:
                turn.end()

    def _apply_late(self, turns: Sequence[_Turn[E, F, C]]) -> None:
        for turn in turns:
            for fact in turn.facts:
                self.apply(fact)
            turn.facts = ()

    # Full disk

    def _on_full_disk(self, error: WakestreamError) -> None:
        now = asyncio.get_running_loop().time()
        logger.log("ERROR" if now >= self._warn_at else "DEBUG", "{}", error)
        self._warn_at = now + WARN_EVERY if now >= self._warn_at else self._warn_at
        self._full, self._retry_at = error, now + RETRY_AFTER

    def _left(self, new: Sequence[_Turn[E, F, C]], error: WakestreamError) -> Sequence[_Turn[E, F, C]]:
        """What is left to do of new decisions when there is no room for them."""
        if self._when_full is None:
            return new
        for turn in new:
            self._without_disk(turn, error)
        return [turn for turn in new if turn.durable or turn.commands]

    def _without_disk(self, turn: _Turn[E, F, C], error: WakestreamError) -> None:
        """Do what `when_full` says about a decision whose facts found no space."""
        try:
            everything: Decision[Any, C] = Decision(turn.durable, turn.commands)
            rest = self._when_full(turn.event, everything, error) if self._when_full is not None else None
        except WakestreamError as refusal:
            turn.facts, turn.durable, turn.commands = (), [], []
            turn.end(refusal)
            return
        if rest is None:
            return
        self._apply_late([turn])
        turn.durable, turn.commands = rest.facts, []
        self._execute(rest.commands)
        turn.end()

    async def _pause(self) -> None:
        """Wait before the next attempt. A new event ends the wait if it may be answered without the disk."""
        if not self._held or self._pending:
            return
        wait = max(0.0, self._retry_at - asyncio.get_running_loop().time())
        if self._when_full is None:
            await asyncio.sleep(wait)
            return
        self._came.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._came.wait()
