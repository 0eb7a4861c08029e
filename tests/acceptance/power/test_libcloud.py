"""The power provider `libcloud` with its own dummy driver; test_libcloud_conformance.py has its driver for EC2."""

import sys
from typing import Any, ClassVar

import pytest
from libcloud.common.exceptions import BaseHTTPError, RateLimitReachedError
from libcloud.common.google import GoogleBaseError, QuotaExceededError
from libcloud.common.types import InvalidCredsError
from libcloud.compute import providers
from libcloud.compute.base import Node
from libcloud.compute.drivers.dummy import DummyNodeDriver
from libcloud.compute.types import NodeState

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power import libcloud
from wakestream.adapters.power.config import PowerConfig
from wakestream.adapters.power.libcloud import LibcloudPower
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, PowerError, QuotaExceeded, Transient, TryAgain

KEYS = {"LIBCLOUD_CREDS": "dummy-credentials"}


class Switchable(DummyNodeDriver):  # type: ignore[misc]
    """The dummy driver, which has no start and stop, with them."""

    raises: ClassVar[Exception | None] = None
    nodes: ClassVar[list[Any]] = []

    def __init__(self, creds: str, **_: Any) -> None:
        super().__init__(creds)
        Switchable.nodes = self.nl

    def start_node(self, node: Node) -> bool:
        if self.raises is not None:
            raise self.raises
        node.state = NodeState.RUNNING
        return True

    def stop_node(self, node: Node) -> bool:
        node.state = NodeState.STOPPED
        return True


@pytest.fixture(autouse=True)
def _driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(providers.DRIVERS, "switchable", (__name__, "Switchable"))
    monkeypatch.setitem(providers.DRIVERS, "gce", (__name__, "Switchable"))
    monkeypatch.setattr(Switchable, "raises", None)


def power(machine: str | None = "dummy-1", driver: str = "switchable", **options: str) -> LibcloudPower:
    given = {"driver": driver, "credentials": "creds", **options}
    return libcloud.create(PowerConfig(machine, given, KEYS.__getitem__))


async def test_a_node_is_listed_started_and_stopped_by_name() -> None:
    mine = power()
    listed = await mine.machines()
    assert (listed[0].id, listed[0].name, listed[0].state) == ("1", "dummy-1", "running")
    await mine.stop()
    assert (await mine.inspect()).state == "stopped"
    await mine.start()
    reading = await mine.inspect()
    assert (reading.state, reading.address) == ("running", "127.0.0.1")


async def test_a_deleted_node_is_gone_and_an_empty_list_is_no_proof() -> None:
    mine = power("dummy-2")
    await mine.inspect()
    del Switchable.nodes[1]
    for call in (mine.inspect, mine.start, mine.stop):
        with pytest.raises(Gone, match="does not list"):
            await call()
    Switchable.nodes.clear()
    with pytest.raises(Transient, match="no machine at all"):
        await mine.inspect()


async def test_the_words_of_google_are_understood() -> None:
    mine = power(driver="gce", project="studio-1")
    await mine.inspect()
    node = Switchable.nodes[0]
    for own, common, state in (
        ("TERMINATED", NodeState.STOPPED, "stopped"),
        ("STOPPING", NodeState.PENDING, "stopping"),
        ("STAGING", NodeState.PENDING, "starting"),
        ("SUSPENDED", NodeState.SUSPENDED, "failed"),
        ("RUNNING", NodeState.RUNNING, "running"),
    ):
        node.extra["status"], node.state = own, common
        assert (await mine.inspect()).state == state
    node.extra["status"] = "TERMINATED"
    node.state = NodeState.STOPPED
    await mine.start()
    assert node.state == NodeState.RUNNING


async def test_terminated_means_off_where_the_driver_is_known_to_say_so_of_machines_that_are_off() -> None:
    mine = power()
    await mine.inspect()
    Switchable.nodes[0].state = NodeState.TERMINATED
    assert (await mine.inspect()).state == "stopped"


EXHAUSTED = "The zone 'projects/p/zones/us-east1-b' does not have enough resources available to fulfill the request."


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (GoogleBaseError({"message": EXHAUSTED}, 200, "ZONE_RESOURCE_POOL_EXHAUSTED"), NoCapacity),
        (Exception("InsufficientInstanceCapacity: no g5.xlarge in this zone"), NoCapacity),
        (BaseHTTPError(500, "No valid host was found. There are not enough hosts available."), NoCapacity),
        (QuotaExceededError({"message": "Quota 'GPUS_ALL_REGIONS' exceeded."}, 403, "quotaExceeded"), QuotaExceeded),
        (InvalidCredsError("no"), Denied),
        (BaseHTTPError(403, "no"), Denied),
        (BaseHTTPError(404, "no"), Gone),
        (RateLimitReachedError(headers={"retry-after": "7"}), TryAgain),
        (GoogleBaseError({"message": "slow down"}, 403, "rateLimitExceeded"), TryAgain),
        (BaseHTTPError(409, "Cannot 'os-start' instance while it is in task_state powering-off"), TryAgain),
        (BaseHTTPError(409, "AllocationFailed: not sufficient capacity in this region"), NoCapacity),
        (ConnectionError("down"), Transient),
        (Exception("nobody has heard of this"), Transient),
        (ValueError("bad argument"), PowerError),
    ],
)
async def test_errors_of_drivers_mean_what_the_monitor_is_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[PowerError]
) -> None:
    mine = power()
    monkeypatch.setattr(Switchable, "raises", error)
    with pytest.raises(PowerError) as caught:
        await mine.start()
    assert type(caught.value) is kind
    if isinstance(error, RateLimitReachedError):
        assert isinstance(caught.value, TryAgain)
        assert caught.value.retry_after == 7


async def test_no_message_shows_a_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = power()
    monkeypatch.setattr(Switchable, "raises", Exception("cannot use dummy-credentials"))
    with pytest.raises(Transient) as caught:
        await mine.start()
    assert "dummy-credentials" not in str(caught.value)


@pytest.mark.parametrize("driver", ["digitalocean", "vultr", "linode", "equinixmetal"])
def test_clouds_where_a_stop_saves_nothing_are_refused_with_the_reason(driver: str) -> None:
    with pytest.raises(SettingsError, match="costs as much as one that runs"):
        power(driver=driver)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"driver": "dummy"}, "no `start_node`"),
        ({"driver": "cumulus"}, "no such driver"),
        ({"driver": ""}, "driver=NAME"),
        ({"secret": "abc"}, "LIBCLOUD_SECRET"),
        ({"address": "home"}, "public or private"),
    ],
)
def test_options_are_checked_before_anything_is_called(options: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        power(**options)


@pytest.mark.parametrize(("provider", "module"), [("libcloud", "libcloud.compute.providers"), ("wol", "asyncssh")])
def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, provider: str, module: str) -> None:
    from wakestream.adapters.power.config import make_power

    monkeypatch.setitem(sys.modules, module, None)
    options = {"driver": "gce"} if provider == "libcloud" else {"worker": "http://a", "ssh": "a@b"}
    with pytest.raises(SettingsError, match=rf'pip install "wakestream\[{provider}\]"'):
        make_power(provider, PowerConfig("00:11:22:aa:bb:cc", options))
