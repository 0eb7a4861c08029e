"""The feed of events: numbered, bounded, and not delayed by a slow reader."""

import asyncio
import tracemalloc

import orjson

from wakestream.adapters.daemon import event_feed as feeds
from wakestream.adapters.daemon.event_feed import EventFeed


def never() -> None:
    raise AssertionError("cut")


async def test_a_reader_of_one_job_gets_its_events_and_a_reader_of_all_gets_all() -> None:
    feed = EventFeed("boot")
    with feed.follow("a", never) as one, feed.follow(None, never) as all_jobs:
        feed.publish("a", {"event": "queued"})
        feed.publish("b", {"event": "queued"})
        first, second = await all_jobs.next(), await all_jobs.next()
        assert first is not None
        assert second is not None
        assert (first.job, second.job) == ("a", "b")
        assert await one.next() == first
        assert orjson.loads(first.data) == {"job": "a", "event": "queued"}
        feed.close()
        assert (await one.next(), await all_jobs.next()) == (None, None)
    assert feed.followers() == 0


async def test_a_slow_reader_is_disconnected_and_others_continue() -> None:
    feed, cut = EventFeed("boot"), []
    with feed.follow(None, lambda: cut.append(True)) as slow, feed.follow("a", never) as quick:
        for _ in range(feeds.QUEUED + 5):
            feed.publish("a", {"event": "note"})
            assert await quick.next() is not None
        assert cut == [True]
        assert await slow.next() is None


async def test_one_who_waits_is_woken_by_the_next_event() -> None:
    feed = EventFeed("boot")
    with feed.follow(None, never) as listener:
        waiting = asyncio.create_task(listener.next())
        await asyncio.sleep(0)
        feed.publish("a", {"event": "done"})
        item = await waiting
        assert item is not None
        assert item.kind == "done"


def test_of_frequent_events_only_the_first_and_the_newest_are_kept() -> None:
    feed = EventFeed("boot")
    for kind in ("accepted", "waking", "waking", "granted", "uploading", "uploading", "uploading", "done"):
        feed.publish("a", {"event": kind})
    kinds = ["accepted", "waking", "waking", "granted", "uploading", "uploading", "done"]
    assert [item.kind for item in feed.of_job("a")] == kinds
    assert [item.number for item in feed.of_job("a", after=4)] == [5, 7, 8]
    assert feed.last("a") == {"job": "a", "event": "done"}
    assert (feed.last("b"), list(feed.of_job("b"))) == (None, [])


def test_the_first_event_of_a_row_is_kept_for_the_rate() -> None:
    feed = EventFeed("boot")

    def first(kind: str, **fields: object) -> object:
        feed.publish("a", {"event": kind, **fields})
        found = feed.first("a")
        return found and {name: value for name, value in found.items() if name not in ("job", "event")}

    assert [first("uploading", bytes=each) for each in (1, 2, 3)] == [None, {"bytes": 1}, {"bytes": 1}]
    assert first("uploaded") is None
    assert [first("running", percent=0, status="queued") for _ in range(2)][1] == {"percent": 0, "status": "queued"}
    assert [first("running", percent=each, status="x") for each in (5, 9)] == [None, {"percent": 5, "status": "x"}]
    assert first("done") is None
    assert feed.first("b") is None


def test_the_feed_is_bounded_and_reports_a_gap() -> None:
    feed = EventFeed("boot")
    for number in range(feeds.KEPT + 10):
        feed.publish(f"job-{number}", {"event": "done"})
    assert feed.recent(0) is None
    kept = feed.recent(10)
    assert kept is not None
    assert len(kept) == feeds.KEPT
    assert feed.recent(feeds.KEPT + 10) == []
    assert feed.last("job-0") is None
    assert len(feed._ended) == feeds.ENDED_KEPT


def test_only_ids_of_this_run_are_known() -> None:
    feed = EventFeed("boot")
    assert feed.after("boot-17") == 17
    for unknown in ("", "other-17", "boot-", "boot-x", "boot", "17", "boot-" + "9" * 40):
        assert feed.after(unknown) is None


def test_a_kept_event_takes_little_memory() -> None:
    feed = EventFeed("boot")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(500):
            feed.publish(f"job-{number}", {"event": "accepted", "at": float(number)})
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken / 500 < 2000, "the queue of its job takes 760; orjson keeps the whole buffer of a result"
