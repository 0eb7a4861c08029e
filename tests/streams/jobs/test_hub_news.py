"""The hot observable of the hub's messages: who comes late knows at once how things stand."""

from typing import Any

from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.jobs.hub_news import HubNews
from wakestream.streams.protocol import messages as m

STARTING, ONLINE = (m.PowerState(gpu="studio", state=state) for state in ("starting", "online"))
ATTIC = m.PowerState(gpu="attic", state="off")


def raised(error: Exception, _: Any) -> None:
    raise error


def news() -> HubNews:
    return HubNews(raised)


def test_a_late_subscriber_hears_the_link_and_the_last_state_of_each_gpu_then_what_happens() -> None:
    hub, heard = news(), list[Any]()
    for event in (LinkUp(), STARTING, m.Pong(), ATTIC, ONLINE):
        hub.feed(event)
    hub.subscribe(heard.append)
    assert heard == [LinkUp(), ONLINE, ATTIC]
    hub.feed(m.Pong())
    assert heard[3:] == [m.Pong()]


def test_who_subscribes_before_anything_happened_hears_everything_once() -> None:
    hub, heard = news(), list[Any]()
    hub.subscribe(heard.append)
    for event in (LinkUp(), STARTING):
        hub.feed(event)
    assert heard == [LinkUp(), STARTING]


def test_what_was_known_of_the_gpus_ends_with_the_connection() -> None:
    hub, heard = news(), list[Any]()
    for event in (LinkUp(), STARTING, LinkDown("cut")):
        hub.feed(event)
    hub.subscribe(heard.append)
    assert heard == [LinkDown("cut")]


def test_who_subscribes_within_a_delivery_hears_nothing_twice() -> None:
    hub, late = news(), list[Any]()

    def joins(event: Any) -> None:
        if event is STARTING:
            hub.subscribe(late.append)
            hub.feed(ONLINE)

    hub.subscribe(joins)
    hub.feed(LinkUp())
    hub.feed(STARTING)
    assert late == [LinkUp(), STARTING, ONLINE]
