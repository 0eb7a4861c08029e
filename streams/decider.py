"""The decider that hub, outbox, worker and monitor are: an event becomes facts and commands, a fact changes the state.

It does no I/O and reads no clock, so that a program can be tested without a network and replayed from its log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cached_property, partial
from typing import Any, Generic, NamedTuple, TypeVar

from wakestream.streams.snapshot import Snapshot

S = TypeVar("S")
E = TypeVar("E")
F = TypeVar("F")
C = TypeVar("C")


class _Applied(list[Any]):
    """The facts of a decision. Each one changes the state when it is added: what follows is decided on that state."""

    __slots__ = ("commands", "now", "state")
    changes: Mapping[type, Callable[[Any, Any], None]]
    watch: Mapping[type, Callable[[Any, Any, float, Any], None]]
    decision: Callable[..., Any]
    state: Any
    now: float
    commands: list[Any]

    def extend(self, facts: Iterable[Any]) -> None:
        state, changes, watch = self.state, self.changes, self.watch
        for fact in facts:
            kind = type(fact)
            if kind in watch:
                watch[kind](state, self.decision((self, self.commands)), self.now, fact)
            changes[kind](state, fact)
            self.append(fact)


class Decision(NamedTuple, Generic[F, C]):
    """The result of one event.

    Attributes:
        facts: What is true from now on. The durable ones are written to the journal before any command is executed.
        commands: What the program does then, in this order.
    """

    facts: list[F]
    commands: list[C]

    def fact(self, *facts: F) -> None:
        """Add facts. From now on the state is as they say."""
        self.facts.extend(facts)

    def command(self, *commands: C) -> None:
        """Add commands."""
        self.commands.extend(commands)


def _nothing(*_: Any) -> None:
    """The default of a step that a decider does not need."""


class Decider(Generic[S, E, F, C]):
    """Two tables: how to decide on each type of event, and how each type of fact changes the state.

    Args:
        initial: Creates the state of a program that starts for the first time.
        handlers: For each type of event, `handler(state, event, now, decision)`. It adds to `decision`; only facts
            change `state`, each at once.
        changes: For each type of fact, `change(state, fact)`. It changes `state` in place.
        durable: The dataclass of what outlives the program, which the state's class inherits from; by default the
            state's own class.
        decision: The class of its decisions.
        finish: Called as `finish(state, decision, now)` after each handler.
        watch: For some types of facts, a function that is called as `watch(state, decision, now, fact)` before such a
            fact changes the state.
        copy: Copies a state for `decide`.
        reindex: Called as `reindex(state)` after a snapshot was read, to make what is not in it.
        restart: Called as `restart(state)` when all facts of a journal were applied.

    Example:
        >>> counter = Decider(
        ...     list, {int: lambda state, event, now, decision: decision.fact(event)}, {int: list.append}
        ... )
        >>> counter.decide([], 5, 0.0).facts
        [5]
        >>> counter.recover([1, 2])
        [1, 2]
    """

    def __init__(
        self,
        initial: Callable[[], S],
        handlers: Mapping[type, Callable[[S, Any, float, Any], None]],
        changes: Mapping[type, Callable[[S, Any], object]],
        durable: type[Any] | None = None,
        *,
        decision: type[Decision[F, C]] = Decision,
        finish: Callable[[S, Any, float], None] = _nothing,
        watch: Mapping[type, Callable[[S, Any, float, Any], None]] | None = None,
        copy: Callable[[S], S] = deepcopy,
        reindex: Callable[[S], None] = _nothing,
        restart: Callable[[S], None] = _nothing,
    ) -> None:
        self._initial, self._handlers, self._changes = initial, handlers, changes
        self._finish, self._reindex, self._restart = finish, reindex, restart
        self._copy = copy
        self._durable = durable
        self._empty: Callable[..., Decision[F, C]] = partial(tuple.__new__, decision)  # quicker than its constructor
        # From Python 3.14 on, a partial in a class is a method.
        of_decider = {"__slots__": (), "changes": changes, "watch": watch or {}, "decision": staticmethod(self._empty)}
        self._facts: type[_Applied] = type("_Facts", (_Applied,), of_decider)

    def decide(self, state: S, event: E, now: float) -> Decision[F, C]:
        """Decide on one event as `step` does, on a copy. Does not change `state`.

        Args:
            state: What the program knows.
            event: What happened.
            now: When it happened, in seconds on the program's clock.

        Returns:
            The facts, which the caller passes to `evolve`, and the commands.
        """
        return self.step(self._copy(state), event, now)

    def evolve(self, state: S, fact: F) -> None:
        """Apply one fact to `state`, in place."""
        self._changes[type(fact)](state, fact)

    def begin(self, state: S, now: float) -> Decision[F, C]:
        """Return an empty decision, whose facts will change `state`."""
        facts = self._facts()
        facts.state, facts.now, facts.commands = state, now, []
        return self._empty((facts, facts.commands))

    def step(self, state: S, event: E, now: float, decision: Decision[F, C] | None = None) -> Decision[F, C]:
        """Decide on one event. Its facts change `state`, each at once, so that what follows is decided on that.

        Args:
            state: What the program knows.
            event: What happened.
            now: When it happened, in seconds on the program's clock.
            decision: What to add to, from `begin`. If the handler raises, it has the facts that apply already.

        Returns:
            The facts, which are to be stored, and the commands, which are to be done then.
        """
        if decision is None:
            decision = self.begin(state, now)
        self._handlers[type(event)](state, event, now, decision)
        self._finish(state, decision, now)
        return decision

    def recover(self, facts: Iterable[F], state: S | None = None, snapshot: Iterable[bytes] = ()) -> S:
        """Apply what a journal holds.

        Args:
            facts: The facts after the snapshot, the oldest first.
            state: What to apply them to; without it, a new state.
            snapshot: The rows that a `snapshot` returned.

        Returns:
            The state after the restart.
        """
        recovered = self.restore(snapshot, state)
        for fact in facts:
            self.evolve(recovered, fact)
        self._restart(recovered)
        return recovered

    def restore(self, snapshot: Iterable[bytes], state: S | None = None) -> S:
        """Return `state`, or a new one, with all that the rows of a snapshot say."""
        restored = self._initial() if state is None else state
        if rows := list(snapshot):
            self._rows.restore(rows, restored)
            self._reindex(restored)
        return restored

    def snapshot(self, state: S) -> Iterator[bytes]:
        """Return rows of JSON from which `restore` makes the same state; a journal may be cut down to them.

        The state may change while they are read, also in another thread: they are made of a copy.
        """
        return self._rows.rows(state)

    @cached_property
    def _rows(self) -> Snapshot[S]:
        state: type[S] = self._initial  # type: ignore[assignment] # only a state that is a dataclass has a snapshot
        return Snapshot(self._durable or state, state)
