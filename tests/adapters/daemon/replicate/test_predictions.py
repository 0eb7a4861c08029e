"""Predictions: when their work began and ended."""

from wakestream.adapters.daemon.event_feed import KEPT_OF_JOB, EventFeed
from wakestream.adapters.daemon.replicate.predictions import _work_times


def works(feed: EventFeed, at: float, percent: float) -> None:
    feed.publish("a", {"event": "running", "at": at, "percent": percent, "status": "processing"})


def test_the_work_began_with_its_first_report_and_not_with_its_last() -> None:
    feed = EventFeed("boot")
    feed.publish("a", {"event": "running", "at": 1.0, "percent": 0.0, "status": "queued"})
    for second in (2.0, 3.0, 4.0):
        works(feed, second, second)
    feed.publish("a", {"event": "downloading", "at": 5.0, "bytes": 1, "of": 2})
    assert _work_times(feed.of_job("a")) == (2.0, 5.0)


def test_the_work_of_a_job_with_many_events_began_with_its_first_report() -> None:
    feed = EventFeed("boot")
    for second in range(1, 2 * KEPT_OF_JOB):
        works(feed, float(second), 1.0)
        feed.publish("a", {"event": "note", "at": float(second), "text": "so far", "facts": {}})
    assert _work_times(feed.of_job("a")) == (1.0, 0.0)
    assert len(feed.of_job("a")) == KEPT_OF_JOB
