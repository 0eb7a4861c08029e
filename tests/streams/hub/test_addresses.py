"""Where clients find a worker: its own word counts most, then its monitor's, which changes at each start."""

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m

FIRST, SECOND = "http://203.0.113.7:8383", "http://203.0.113.8:8383"


def worker(net: Net, url: str | None = None) -> int:
    fd = net.join("worker", gpu="studio", url=url, features=("range",))
    net.say(fd, m.Online())
    return fd


def says(net: Net, monitor: int, state: str, url: str | None) -> None:
    follows = True if url == "" else None
    net.say(monitor, m.PowerState(gpu="studio", state=state, url=url or None, url_follows=follows))


def urls(net: Net, client: int) -> list[str | None]:
    return [ack.url for ack in net.heard(client, m.Ack)]


def test_a_worker_that_names_its_url_is_believed(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client")
    net.submit(client)
    says(net, monitor, "booted", FIRST)
    fd = worker(net, "http://tunnel:1")
    assert urls(net, client) == ["http://tunnel:1"]
    says(net, monitor, "online", SECOND)
    net.say(fd, m.Url(url="http://tunnel:2"))
    assert net.submit(client, "j2").url == "http://tunnel:2"  # type: ignore[attr-defined]


def test_the_address_of_the_start_before_is_never_granted(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client")
    says(net, monitor, "booted", FIRST)
    fd = worker(net)
    says(net, monitor, "stopping", None)
    net.leave(fd)
    says(net, monitor, "starting", "")
    net.submit(client)
    worker(net)  # before the monitor's next look
    assert urls(net, client) == []
    says(net, monitor, "booted", SECOND)
    assert urls(net, client) == [SECOND]


def test_a_worker_whose_address_never_comes_is_granted_without(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client")
    says(net, monitor, "booted", "")
    net.submit(client)
    worker(net)
    net.pass_time(net.limits.unaddressed - 1)
    assert urls(net, client) == []
    net.pass_time(2)
    assert urls(net, client) == [None]


def test_an_address_that_changes_while_it_is_online_is_told_to_all(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client")
    says(net, monitor, "booted", FIRST)
    worker(net)
    says(net, monitor, "online", SECOND)
    assert [online.url for online in net.heard(client, m.Online)] == [FIRST, SECOND]
    assert net.submit(client).url == SECOND  # type: ignore[attr-defined]


def test_after_a_restart_of_the_hub_the_monitor_says_the_address_again(net: Net) -> None:
    monitor = net.monitor()
    says(net, monitor, "booted", FIRST)
    worker(net)
    net.restart()
    client = net.join("client")
    net.submit(client)
    worker(net)  # before the monitor
    assert urls(net, client) == []
    says(net, net.monitor(), "online", SECOND)
    assert urls(net, client) == [SECOND]


def test_a_monitor_that_says_no_addresses_any_more_holds_up_nothing(net: Net) -> None:
    says(net, net.monitor(), "booted", FIRST)
    net.restart()
    client = net.join("client")
    says(net, net.monitor(), "booted", None)
    net.submit(client)
    worker(net)
    assert urls(net, client) == [None]


def test_a_monitor_that_was_restarted_does_not_lose_the_address(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client")
    says(net, monitor, "booted", FIRST)
    worker(net)
    net.leave(monitor)
    monitor = net.monitor()
    for state, url in (("unknown", None), ("booted", ""), ("online", None)):
        says(net, monitor, state, url)
        assert net.submit(client, f"job-{state}").url == FIRST  # type: ignore[attr-defined]
    says(net, monitor, "off", None)
    says(net, monitor, "starting", "")
    assert net.state.url_of(net.state.gpus["studio"]) is None


def test_clients_do_not_get_the_address_with_the_power_state(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client", features=("power_state",))
    says(net, monitor, "booted", FIRST)
    assert net.heard(client, m.PowerState)[-1].url is None
