"""Who has a place at a server, and who makes room for whom; in a time that is set."""

import asyncio
import errno
import random
import socket
from contextlib import suppress
from typing import Any

import pytest

from tests.support.log_lines import logged
from wakestream.adapters.config.addresses import network
from wakestream.adapters.net import acceptor
from wakestream.adapters.net.acceptor import Acceptor, in_one_line
from wakestream.adapters.net.connection_limits import (
    FRESH,
    LEAST,
    STRANGERS,
    ConnectionLimits,
    Place,
    Proxies,
    Refusals,
    Room,
)


class Server:
    """Limits, a clock to set, and who was ended."""

    def __init__(self, known: int = 100, strangers: int = 40, per_address: int = 80, **more: Any) -> None:
        self.now = 100.0
        self.refused = Refusals()
        self.limits = ConnectionLimits(
            Room(known, strangers), per_address, self.refused, clock=lambda: self.now, **more
        )  # fmt: skip
        self.ended: list[str] = []

    def comes(self, address: str, name: str = "") -> Place | None:
        return self.limits.take(address, lambda: self.ended.append(name or address))

    def here(self, address: str, count: int) -> list[Place]:
        places = [self.comes(address, f"{address} {number}") for number in range(count)]
        assert None not in places
        return [place for place in places if place is not None]

    def known(self, address: str, count: int) -> list[Place]:
        places = []
        for _ in range(count):
            places += self.here(address, 1)
            self.limits.let_in(places[-1])
        return places


@pytest.fixture
def server() -> Server:
    return Server()


def test_one_address_may_use_a_quarter_of_the_places_for_new_connections(server: Server) -> None:
    server.here("192.0.2.1", 20)
    assert server.comes("192.0.2.1") is None
    assert server.refused == {"crowded_address": 1}
    server.now += FRESH
    assert server.comes("192.0.2.1") is not None
    assert server.ended == ["192.0.2.1 0"], "the one that is longest there"


def test_new_connections_of_few_addresses_are_replaced_by_one_of_another(server: Server) -> None:
    for address in ("192.0.2.1", "192.0.2.2"):
        server.here(address, 20)
    for number in range(10):
        assert server.comes("198.51.100.7", f"owner {number}") is not None
    assert len(server.ended) == 10
    assert not any(name.startswith("owner") for name in server.ended)


def test_new_connections_of_many_addresses_are_replaced_after_their_time(server: Server) -> None:
    for number in range(40):
        server.here(f"2001:db8:0:{number:x}::1", 1)
    assert server.comes("198.51.100.7") is None
    assert server.refused == {"full": 1}
    server.now += FRESH
    assert server.comes("198.51.100.7") is not None
    assert server.ended == ["2001:db8:0:0::1 0"]


def test_where_all_are_of_one_machine_the_last_one_never_waits() -> None:
    server = Server(fresh=0.0)
    server.here("127.0.0.1", 500)
    server.here("127.0.0.2", 500)
    assert len(server.ended) == 960
    assert server.comes("127.0.0.1") is not None


def test_a_new_connection_takes_no_place_of_an_admitted_one() -> None:
    server = Server(fresh=0.0)
    known = server.known("192.0.2.1", 60)
    for number in range(1000):
        server.here(f"192.0.2.{number % 250}", 1)
    assert not any(place.gone for place in known)
    more = server.known("198.51.100.7", 40)
    assert all(place.known for place in more)
    assert server.limits.is_full


def test_an_admission_over_the_limit_stays_new_and_connected() -> None:
    server = Server(known=2)
    first, second, third = server.known("192.0.2.1", 3)
    assert (first.known, second.known, third.known) == (True, True, False)
    assert not server.ended
    server.limits.free(first)
    server.limits.let_in(third)
    assert third.known


def test_one_address_cannot_use_all_admitted_places() -> None:
    server = Server(per_address=80)
    server.known("192.0.2.1", 90)
    assert server.limits.is_crowded("192.0.2.1")
    assert not server.limits.is_full
    assert all(place.known for place in server.known("192.0.2.2", 20))


def test_programs_at_one_address_take_no_places_of_each_other() -> None:
    server = Server(per_address=20)
    places = server.here("192.0.2.1", 15)
    for place in places:
        server.limits.let_in(place, "token shop")
    more = server.here("192.0.2.1", 6)
    for place in more:
        server.limits.let_in(place, "token shop")
    assert [place.known for place in more] == [True] * 5 + [False]
    server.limits.let_in(more[-1], "token other")
    assert more[-1].known
    server.limits.speaks_for(places[0], "192.0.2.1")
    server.limits.let_in(places[0], "token other")  # a proxy uses its connection for another one
    assert dict(server.limits._known) == {"token shop": 19, "token other": 2}


@pytest.mark.parametrize("peer", ["2001:db8:1:2:{:x}::1", "::ffff:192.0.2.7"])
def test_a_network_of_64_bits_is_one_address_and_so_is_a_mapped_one(server: Server, peer: str) -> None:
    for number in range(20):
        server.here(peer.format(number), 1)
    assert server.comes(peer.format(77)) is None
    assert server.comes("2001:db8:1:3::1") is not None


def test_a_place_is_freed_once(server: Server) -> None:
    [place] = server.here("192.0.2.1", 1)
    server.limits.free(place)
    server.limits.free(place)
    server.limits.let_in(place)
    server.limits.speaks_for(place, "192.0.2.2")
    assert not server.limits.is_crowded("192.0.2.1")
    assert len(server.here("192.0.2.1", 20)) == 20
    assert server.comes("192.0.2.1") is None


def test_callers_behind_a_proxy_are_limited_by_their_own_address() -> None:
    server = Server(known=200, strangers=60, proxies=Proxies((network("10.0.0.2"),)))
    for place in server.here("10.0.0.2", 20):
        server.limits.speaks_for(place, "192.0.2.66")
    [late] = server.here("10.0.0.2", 1)  # which no bound of one address turns away
    server.limits.speaks_for(late, "192.0.2.66")
    assert server.ended == ["10.0.0.2 0"]
    [other] = server.here("10.0.0.2", 1)
    server.limits.speaks_for(other, "192.0.2.7")
    server.limits.let_in(other)
    assert other.known
    assert not server.limits.is_crowded("192.0.2.7")


def test_without_free_file_descriptors_the_oldest_new_connection_closes(server: Server) -> None:
    server.here("192.0.2.2", 1)
    server.now += 1
    server.here("192.0.2.1", 3)
    server.known("192.0.2.3", 1)
    for _ in range(6):
        server.limits.make_room()
    assert server.ended == ["192.0.2.2 0", "192.0.2.1 0", "192.0.2.1 1", "192.0.2.1 2"]


@pytest.mark.parametrize(
    ("sockets", "room"), [(21_000, (20_500, 500)), (2000, (1500, 500)), (462, (347, 115)), (50, (34, 16)), (1, (1, 16))]
)
def test_the_room_is_divided(sockets: int, room: tuple[int, int]) -> None:
    found = Room.of(sockets)
    assert (found.known, found.strangers) == room
    assert LEAST <= found.strangers <= STRANGERS


def test_the_counts_stay_true_whatever_happens() -> None:
    chance = random.Random(7)
    server = Server(known=30, strangers=20, per_address=40, fresh=0.5, proxies=Proxies((network("10.0.0.2"),)))
    places: list[Place] = []
    for _ in range(20_000):
        server.now += chance.random() / 10
        address = chance.choice(("10.0.0.2", *(f"192.0.2.{number}" for number in range(9))))
        place = chance.choice(places) if places else None
        what = chance.randrange(6)
        if what < 3:
            found = server.comes(address)
            places += [found] if found is not None else []
        elif place is not None and what == 3:
            server.limits.let_in(place, chance.choice(("", "token shop", "token other")))
        elif place is not None and what == 4:
            server.limits.speaks_for(place, address)
        elif place is not None:
            server.limits.free(place)
        places = [place for place in places if not place.gone]
        assert sum(not place.known for place in places) <= 20
        assert sum(place.known for place in places) <= 30
    for place in places:
        server.limits.free(place)
    assert (server.limits._waiting, server.limits._inside) == (0, 0)
    assert not server.limits._strangers
    assert not server.limits._known


async def test_an_accepted_socket_has_nodelay_and_frees_its_place_on_close(server: Server) -> None:
    loop = asyncio.get_running_loop()
    for host in ("127.0.0.1", "localhost"):
        for bound in await Acceptor(server.limits).bind(host, 0):
            made: asyncio.Future[asyncio.Transport] = loop.create_future()

            class Protocol(asyncio.Protocol):
                def connection_made(self, transport: asyncio.BaseTransport, made: Any = made) -> None:
                    made.set_result(transport)

            async with await loop.create_server(Protocol, sock=bound):
                reader, writer = await asyncio.open_connection(*bound.getsockname()[:2])
                transport = await made
                accepted = transport.get_extra_info("socket")
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert server.limits.open == 1
                transport.abort()
                with suppress(ConnectionError):
                    await reader.read()
                assert server.limits.open == 0
                writer.close()


async def test_an_accept_without_file_descriptors_frees_one_and_logs_one_line(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.here("192.0.2.1", 2)
    [listening] = await Acceptor(server.limits).bind("127.0.0.1", 0)

    def none_left(_: socket.socket) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with listening:
        monkeypatch.setattr(acceptor.socket.socket, "accept", none_left)
        with pytest.raises(OSError, match="Too many") as raised:
            listening.accept()
    assert server.ended == ["192.0.2.1 0"]
    with logged("DEBUG") as told:
        what = {"message": "socket.accept() out of system resource", "exception": raised.value}
        in_one_line(None, what)  # type: ignore[arg-type]  # which is for other faults only
    assert told == ["no further connection can be accepted: Too many open files; tried again in a second"]


def test_refusals_are_counted_by_reason_and_reported() -> None:
    told: list[tuple[str, int]] = []
    refused = Refusals(lambda reason, times: told.append((reason, times)))
    for reason in ("malformed", "full", "malformed"):
        refused.count(reason)
    assert refused == {"malformed": 2, "full": 1}
    assert (refused.total(), refused["never"]) == (3, 0)
    assert told == [("malformed", 1), ("full", 1), ("malformed", 2)]
