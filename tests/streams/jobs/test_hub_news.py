"""The hot observable of the hub's messages: who comes late knows at once how things stand."""

from typing import Any

from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.jobs.hub_client import HubNews
from wakestream.streams.protocol import messages as m

STARTING, ONLINE = (m.PowerState(gpu="studio", state=state) for state in ("starting", "online"))
ATTIC = m.PowerState(gpu="attic", state="off")


def raised(error: Exception, _: Any) -> None:
    raise error


def news() -> HubNews:
    return HubNews(raised)


def test_a_late_subscriber_gets_the_link_and_gpu_states_first() -> None:
    hub, heard = news(), list[Any]()
    for event in (LinkUp(), STARTING, m.Pong(), ATTIC, ONLINE):
        hub.feed(event)
    hub.subscribe(heard.append)
    assert heard == [LinkUp(), ONLINE, ATTIC]
    hub.feed(m.Pong())
    assert heard[3:] == [m.Pong()]


def test_an_early_subscriber_gets_everything_once() -> None:
    hub, heard = news(), list[Any]()
    hub.subscribe(heard.append)
    for event in (LinkUp(), STARTING):
        hub.feed(event)
    assert heard == [LinkUp(), STARTING]


def test_gpu_states_end_with_the_connection() -> None:
    hub, heard = news(), list[Any]()
    for event in (LinkUp(), STARTING, LinkDown("cut")):
        hub.feed(event)
    hub.subscribe(heard.append)
    assert heard == [LinkDown("cut")]


def test_a_subscriber_added_during_a_delivery_gets_nothing_twice() -> None:
    hub, late = news(), list[Any]()

    def joins(event: Any) -> None:
        if event is STARTING:
            hub.subscribe(late.append)
            hub.feed(ONLINE)

    hub.subscribe(joins)
    hub.feed(LinkUp())
    hub.feed(STARTING)
    assert late == [LinkUp(), STARTING, ONLINE]


def test_what_is_fed_while_a_subscriber_gets_the_present_state_comes_after_it() -> None:
    hub, heard = news(), list[Any]()

    def asks(event: Any) -> None:
        heard.append(event)
        if isinstance(event, LinkUp):
            hub.feed(m.Pong())

    for event in (LinkUp(), STARTING):
        hub.feed(event)
    hub.subscribe(asks)
    assert heard == [LinkUp(), STARTING, m.Pong()]
