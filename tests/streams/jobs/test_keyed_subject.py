"""THE hot observable: it delivers by key, to all in one order, whatever its observers do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex.disposable import SerialDisposable

from wakestream.streams.jobs.keyed_subject import KeyedSubject


def board(faults: list[Any] | None = None) -> KeyedSubject[Any]:
    def on_fault(error: Exception, item: Any) -> None:
        if faults is None:
            raise error
        faults.append((error, item))

    return KeyedSubject(on_fault)


def test_an_item_without_a_key_reaches_every_listener() -> None:
    hub, heard = board(), list[str]()
    hub.listen("a", lambda item: heard.append(f"a{item}"))
    hub.listen("b", lambda item: heard.append(f"b{item}"))
    hub.subscribe(lambda item: heard.append(f"all{item}"))
    hub.feed(1)
    assert heard == ["all1", "a1", "b1"]


def test_operators_work_on_it_as_on_any_observable() -> None:
    hub, heard = board(), list[Any]()
    hub.filter(lambda item: item > 1).take(2).subscribe(heard.append, on_completed=lambda: heard.append("|"))
    for item in range(5):
        hub.feed(item)
    assert heard == [2, 3, "|"]


def test_nothing_comes_after_dispose_which_can_be_repeated() -> None:
    hub, heard = board(), list[int]()
    listening, subscribed = hub.listen("a", heard.append), hub.subscribe(heard.append)
    for one in (listening, subscribed):
        one.dispose()
        one.dispose()
    hub.feed(1, "a")
    assert heard == []


def test_the_keys_with_listeners_are_listed_oldest_first() -> None:
    hub = board()
    first, second, third = (hub.listen(key, print) for key in ("b", "a", "b"))
    assert hub.keys == ("b", "a")
    first.dispose()
    assert hub.keys == ("b", "a")
    third.dispose()
    assert hub.keys == ("a",)
    second.dispose()
    assert hub.keys == ()


def test_a_callback_registered_twice_is_called_twice_and_disposed_separately() -> None:
    hub, heard = board(), list[int]()
    first = hub.listen("a", heard.append)
    hub.listen("a", heard.append)
    hub.feed(1, "a")
    first.dispose()
    hub.feed(2, "a")
    assert heard == [1, 1, 2]


@pytest.mark.parametrize("key", ["a", None])
def test_an_observer_that_raises_is_reported_and_blocks_no_other(key: str | None) -> None:
    faults: list[Any] = []
    hub, heard, fault = board(faults), list[str](), ValueError("observer")

    def raises(_: Any) -> None:
        raise fault

    hub.subscribe(raises)
    hub.subscribe(lambda item: heard.append(f"all{item}"))
    hub.listen("a", raises)
    hub.listen("a", lambda item: heard.append(f"a{item}"))
    hub.feed(1, key)
    hub.feed(2, key)
    assert heard == ["all1", "a1", "all2", "a2"]
    assert faults == [(fault, 1), (fault, 1), (fault, 2), (fault, 2)]


def test_an_item_fed_during_a_delivery_comes_after_it() -> None:
    hub, one, two = board(), list[int](), list[int]()

    def feeds(item: int) -> None:
        one.append(item)
        if item < 3:
            hub.feed(item + 1, "a")

    hub.listen("a", feeds)
    hub.listen("a", two.append)
    hub.feed(1, "a")
    assert one == two == [1, 2, 3]


def test_ten_thousand_items_fed_from_within_do_not_overflow_the_stack() -> None:
    hub, last = board(), 0

    def feeds(item: int) -> None:
        nonlocal last
        last = item
        if item < 10_000:
            hub.feed(item + 1)

    hub.subscribe(feeds)
    hub.feed(1)
    assert last == 10_000


@pytest.mark.parametrize("key", ["a", None])
def test_a_listener_disposed_during_a_delivery_gets_no_more(key: str | None) -> None:
    hub, heard = board(), list[int]()
    later = SerialDisposable()
    hub.listen("a", lambda _: later.dispose())
    later.disposable = hub.listen("a", heard.append)
    hub.feed(1, key)
    assert heard == []


@pytest.mark.parametrize("key", ["a", None])
@pytest.mark.parametrize("joins", ["a", "b", "new", None])
def test_a_listener_added_during_a_delivery_starts_with_the_next_one(key: str | None, joins: str | None) -> None:
    hub, heard = board(), list[int]()
    joined: list[Any] = []

    def join(_: Any) -> None:
        if not joined:
            joined.append(hub.subscribe(heard.append) if joins is None else hub.listen(joins, heard.append))

    hub.subscribe(join)
    hub.listen("a", print_nothing)
    hub.listen("b", print_nothing)
    hub.feed(1, key)
    hub.feed(2)
    assert heard == [2]


def print_nothing(_: Any) -> None:
    """A listener that is there, no more."""


def test_an_exit_from_the_program_passes_and_the_board_still_works() -> None:
    hub, heard = board(), list[int]()

    def leaves(_: Any) -> None:
        raise KeyboardInterrupt

    leaving = hub.listen("a", leaves)
    with pytest.raises(KeyboardInterrupt):
        hub.feed(1, "a")
    leaving.dispose()
    hub.listen("a", heard.append)
    hub.feed(2, "a")
    assert heard == [2]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["listen", "leave", "feed", "broadcast"]))))
def test_it_behaves_like_a_plain_list_of_listeners(steps: list[tuple[str, str]]) -> None:
    hub = board()
    present: list[tuple[str, list[int], Any]] = []
    expected: list[tuple[list[int], list[int]]] = []
    for number, (key, step) in enumerate(steps):
        if step == "listen":
            heard, wanted = list[int](), list[int]()
            present.append((key, wanted, hub.listen(key, heard.append)))
            expected.append((heard, wanted))
        elif step == "leave" and present:
            present.pop(0)[2].dispose()
        elif step in ("feed", "broadcast"):
            hub.feed(number, key if step == "feed" else None)
            for name, wanted, _ in present:
                if step == "broadcast" or name == key:
                    wanted.append(number)
    assert all(heard == wanted for heard, wanted in expected)
    assert set(hub.keys) == {key for key, _, _ in present}


def test_by_key_emits_the_items_of_its_key_until_disposed() -> None:
    hub, heard = board(), list[Any]()
    listening = hub.by_key("a").subscribe(heard.append)
    for item, key in ((1, "a"), (2, "b"), (3, None), (4, "a")):
        hub.feed(item, key)
    listening.dispose()
    hub.feed(5, "a")
    assert heard == [1, 3, 4]
    assert hub.keys == ()


def test_a_fault_that_raises_keeps_nothing_from_the_others() -> None:
    def on_fault(error: Exception, item: Any) -> None:
        raise error

    hub, heard = KeyedSubject[str](on_fault), list[str]()

    def raises(item: str) -> None:
        if item == "A":
            hub.feed("B", "a")
            raise ValueError("observer")

    hub.listen("a", raises)
    hub.listen("a", heard.append)
    with pytest.raises(ValueError, match="observer"):
        hub.feed("A", "a")
    assert heard == ["A", "B"]
    hub.feed("C", "a")
    assert heard == ["A", "B", "C"]
