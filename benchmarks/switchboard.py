"""One message to 1 of N waiting jobs, against a dict of bare callbacks, a dict of Subjects, and N filters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import eq

from reactivex import Subject
from reactivex import operators as ops
from timing import in_turns, row

from wakestream.streams.jobs.keyed_subject import KeyedSubject

MESSAGES = 1000


def switchboard(waiting: int) -> Callable[[], None]:
    board: KeyedSubject[int] = KeyedSubject(lambda error, item: None)
    for key in range(waiting):
        board.listen(key, lambda item: None)

    def run() -> None:
        for n in range(MESSAGES):
            board.feed(n, n % waiting)

    return run


def callbacks(waiting: int) -> Callable[[], None]:
    table = {key: (lambda item: None) for key in range(waiting)}

    def run() -> None:
        for n in range(MESSAGES):
            found = table.get(n % waiting)
            if found is not None:
                found(n)

    return run


def subjects(waiting: int) -> Callable[[], None]:
    table: dict[int, Subject[int]] = {key: Subject() for key in range(waiting)}
    for subject in table.values():
        subject.subscribe(lambda item: None)

    def run() -> None:
        for n in range(MESSAGES):
            table[n % waiting].on_next(n)

    return run


def filters(waiting: int) -> Callable[[], None]:
    source: Subject[int] = Subject()
    for key in range(waiting):
        source.pipe(ops.filter(partial(eq, key))).subscribe(lambda item: None)

    def run() -> None:
        source.on_next(1)

    return run


def main() -> bool:
    """Print the rows; True if every budget holds."""
    many = in_turns(
        30, few=switchboard(10), many=switchboard(10_000), bare=callbacks(10_000), subjects=subjects(10_000)
    )
    slow = in_turns(5, filters=filters(10_000))
    each = {name: seconds / MESSAGES * 1e6 for name, seconds in many.items()}
    print("switchboard, one message to 1 of 10,000 waiting")
    print(
        f"        {each['many']:.2f} us; at 10 waiting {each['few']:.2f}, bare callbacks {each['bare']:.2f}, "
        f"Subjects {each['subjects']:.2f}, filters {slow['filters'] * 1e6:.0f} us"
    )
    flat = row("its cost at 10 waiting", many["many"], many["few"], 1.5)
    return row("a dict of bare callbacks", many["many"], many["bare"], 4.0) and flat
