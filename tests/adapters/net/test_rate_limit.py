"""How often an address may do something."""

import pytest

from tests.support.log_lines import logged
from wakestream.adapters.config.addresses import network
from wakestream.adapters.net.connection_limits import Proxies, Rate, neighbourhood


class Clock:
    """A clock to set."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_is_allowed_and_then_one_at_a_time(clock: Clock) -> None:
    rate = Rate(3, 10.0, clock=clock)
    for _ in range(3):
        assert rate.wait("a") == 0
        rate.count("a")
    assert rate.wait("a") == 10.0
    clock.now += 9.0
    assert rate.wait("a") == 1.0
    clock.now += 1.0
    assert rate.wait("a") == 0
    rate.count("a")
    assert rate.wait("a") == 10.0
    clock.now += 1000.0
    for _ in range(3):
        assert rate.wait("a") == 0
        rate.count("a")
    assert rate.wait("a") == 10.0


def test_one_address_does_not_slow_another_down(clock: Clock) -> None:
    rate = Rate(1, 10.0, clock=clock)
    rate.count("192.0.2.1")
    assert (rate.wait("192.0.2.1"), rate.wait("192.0.2.2")) == (10.0, 0)


def test_memory_is_bounded_and_the_longest_unheard_of_are_forgotten(clock: Clock) -> None:
    rate = Rate(1, 10.0, most=100, clock=clock)
    for number in range(1000):
        rate.count(f"10.0.{number // 256}.{number % 256}")
    assert len(rate._clean) == 100
    assert (rate.wait("10.0.0.0"), rate.wait("10.0.3.231")) == (0, 10.0)


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/hub.sock", "/run/hub.sock"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, counts_as: str) -> None:
    assert neighbourhood(address) == counts_as


def test_an_ignored_loopback_header_is_logged_once() -> None:
    proxies = Proxies((network("172.18.0.0/16"),))
    with logged("WARNING") as told:
        for peer in ("198.51.100.1", "172.18.0.2", "127.0.0.1", "127.0.0.1", "::1"):
            proxies.caller(peer, "192.0.2.7")
    assert told == [
        "a proxy at 127.0.0.1 sent X-Forwarded-For, which is ignored because the proxy was not named; "
        "add --behind-proxy 127.0.0.1 if it is yours"
    ]


@pytest.mark.parametrize(
    ("peer", "forwarded", "counts_as"),
    [
        ("", "192.0.2.7", ""),
        ("::1", "203.0.113.1, 192.0.2.7", "::1"),
        ("198.51.100.1", "192.0.2.7", "198.51.100.1"),
        ("172.18.0.2", "192.0.2.7, spoofed", "172.18.0.2"),
        ("172.18.0.2", "192.0.2.7, 127.0.0.1", "127.0.0.1"),
        ("172.18.0.2", "192.0.2.7", "192.0.2.7"),
        ("::ffff:172.18.0.2", "192.0.2.7", "192.0.2.7"),
        ("172.18.0.2", "203.0.113.1, 192.0.2.7", "192.0.2.7"),
        ("172.18.0.2", None, "172.18.0.2"),
        ("2001:db8::7", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7", "127.0.0.1"),
        ("172.19.0.2", "192.0.2.7", "172.19.0.2"),
        ("2001:db8::8", "192.0.2.7", "2001:db8::8"),
        ("/run/hub.sock", "192.0.2.7", "/run/hub.sock"),
    ],
)
def test_the_header_of_a_configured_proxy_is_used_and_no_other(
    peer: str, forwarded: str | None, counts_as: str
) -> None:
    assert Proxies((network("172.18.0.1/16"), network("2001:db8::7"))).caller(peer, forwarded) == counts_as
    assert Proxies().caller(peer, forwarded) == peer
