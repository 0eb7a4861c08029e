"""The power provider `ec2` against moto, behind a proxy with what moto has not."""

import asyncio
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3
import pytest

from tests.support.engines.real_servers import ROOT
from tests.support.power.ec2_proxy import Ec2Proxy, ec2_proxy
from tests.support.power.ec2_world import REGION, instance
from tests.support.power.stand_ins import needs_clouds
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power import ec2
from wakestream.adapters.power.config import PowerConfig
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, PowerError, QuotaExceeded, Transient, TryAgain
from wakestream.operators.model.ports import Reading

pytestmark = needs_clouds()


@pytest.fixture
async def cloud(moto_url: str) -> AsyncIterator[Ec2Proxy]:
    async with ec2_proxy(moto_url) as proxy:
        yield proxy


Make = Callable[..., ec2.Ec2Power]


@pytest.fixture
async def make(cloud: Ec2Proxy) -> AsyncIterator[Make]:
    """Makes providers of the cloud, which are closed at the end."""
    async with AsyncExitStack() as stack:

        def made(machine: str | None, url: str = "", region: str | None = REGION) -> ec2.Ec2Power:
            options = {"region": region} if region is not None else {}
            power = ec2.create(PowerConfig(machine, options, timeout=20, base_url=url or cloud.url))
            stack.push_async_callback(power.close)
            return power

        yield made


async def until(power: ec2.Ec2Power, state: str) -> Reading:
    async with asyncio.timeout(100):
        while (reading := await power.inspect()).state != state:
            pass
    return reading


async def test_an_instance_is_started_and_stopped_and_has_another_address_each_time(make: Make, client: Any) -> None:
    power = make(instance(client, "lips"))
    assert (await power.inspect()).state == "stopped"
    addresses = []
    for _ in range(2):
        await power.start()
        first = await power.inspect()
        assert (first.state, first.address) == ("starting", None)
        running = await until(power, "running")
        assert running.since is not None
        addresses.append(running.address)
        await power.stop()
        assert (await power.inspect()).state == "stopping"
        assert (await until(power, "stopped")).address is None
    assert None not in addresses
    assert len(set(addresses)) == 2


async def test_starting_what_runs_and_stopping_what_is_stopped_changes_nothing(make: Make, client: Any) -> None:
    power = make(instance(client, "twice"))
    await power.stop()
    await until(power, "stopped")
    await power.start()
    await until(power, "running")
    await power.start()
    assert (await power.inspect()).state == "running"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InsufficientInstanceCapacity", NoCapacity),
        ("InsufficientHostCapacity", NoCapacity),
        ("VcpuLimitExceeded", QuotaExceeded),
        ("InstanceLimitExceeded", QuotaExceeded),
        ("UnauthorizedOperation", Denied),
        ("AuthFailure", Denied),
        ("ExpiredToken", Denied),
        ("RequestExpired", Denied),
        ("InvalidInstanceID.NotFound", Gone),
        ("RequestLimitExceeded", TryAgain),
        ("InternalError", Transient),
        ("NeverHeardOf", Transient),
        ("UnsupportedOperation", PowerError),
    ],
)
async def test_each_code_means_what_the_monitor_is_to_do(
    cloud: Ec2Proxy, make: Make, client: Any, code: str, kind: type[PowerError]
) -> None:
    power = make(instance(client, code))
    cloud.fail("StartInstances", code, "some reason Encoded authorization failure message: AAAA", 500)
    with pytest.raises(PowerError, match=f"{code}: some reason$|{code}: some reason; ") as caught:
        await power.start()
    assert type(caught.value) is kind
    assert cloud.asked.count("StartInstances") == 1, "the monitor decides about repeats"


async def test_a_start_that_fails_later_for_want_of_capacity_is_no_capacity(
    cloud: Ec2Proxy, make: Make, client: Any
) -> None:
    power = make(instance(client, "later"))
    cloud.no_room = True
    await power.start()
    assert (await power.inspect()).state == "starting"
    assert "no room for it" in (await until(power, "no_capacity")).detail
    cloud.no_room = False
    await power.start()
    await until(power, "running")


async def test_a_machine_that_is_still_stopping_is_started_a_little_later(make: Make, client: Any) -> None:
    power = make(instance(client, "busy", stopped=False))
    await power.stop()
    with pytest.raises(TryAgain, match="IncorrectInstanceState") as caught:
        await power.start()
    assert caught.value.retry_after == 5
    await until(power, "stopped")
    await power.start()
    await until(power, "running")


async def test_a_deleted_instance_is_terminated_and_its_start_says_so(cloud: Ec2Proxy, make: Make, client: Any) -> None:
    name = instance(client, "deleted")
    power = make(name)
    client.terminate_instances(InstanceIds=[name])
    assert (await power.inspect()).state == "terminated"
    cloud.fail("StartInstances", "IncorrectInstanceState")
    with pytest.raises(Gone, match="terminated"):
        await power.start()


async def test_machines_are_listed_with_their_names_and_types_and_found_by_name(make: Make, client: Any) -> None:
    name = instance(client, "by-name")
    lister = make(None)
    found = next(each for each in await lister.machines() if each.id == name)
    assert (found.name, found.state, found.gpu) == ("by-name", "stopped", "g5.xlarge")
    power = make("by-name")
    assert (await power.inspect()).state == "stopped"
    missing = make("nobody")
    with pytest.raises(PowerError, match="no machine is named 'nobody'"):
        await missing.start()


async def test_missing_credentials_are_denied_with_a_page_to_read(
    make: Make, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = instance(client, "locked")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    power = make(name)
    with pytest.raises(Denied, match=r"credentials.*docs/power/ec2\.md"):
        await power.inspect()


NOBODY = "i-00000000000000000"


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, Gone, "check the region"),
        ({"region": None}, PowerError, "--power-option region=REGION"),
        ({"url": "{cloud}/moto-api"}, Transient, ""),  # moto's own pages are not XML
        ({"url": "http://127.0.0.1:1"}, Transient, "no answer"),
    ],
    ids=["an unknown id", "no region", "not an answer of EC2", "no answer"],
)
async def test_an_instance_that_cannot_be_looked_at_says_why(
    make: Make, cloud: Ec2Proxy, options: dict[str, str], kind: type[PowerError], words: str
) -> None:
    power = make(NOBODY, **{name: value and value.format(cloud=cloud.target) for name, value in options.items()})
    with pytest.raises(kind, match=words or None):
        await power.inspect()


def test_options_are_checked_before_anything_is_called() -> None:
    with pytest.raises(SettingsError, match="public, private or dns"):
        ec2.create(PowerConfig(NOBODY, {"address": "home"}))
    with pytest.raises(SettingsError, match="no such option"):
        ec2.create(PowerConfig(NOBODY, {"zone": "a"}))
    with pytest.raises(SettingsError, match="--machine ID"):
        ec2.create(PowerConfig(""))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(SettingsError, match=r'pip install "wakestream\[ec2\]"'):
        ec2.create(PowerConfig(NOBODY))


@pytest.fixture
def enforced(moto_url: str) -> Iterator[None]:
    """Moto checks the rights of each key from now on; it does not know those for single instances."""

    def enforce(count: bytes) -> None:
        plain = {"Content-Type": "text/plain"}
        with urlopen(Request(f"{moto_url}/moto-api/reset-auth", count, plain, method="POST")):  # noqa: S310 - our moto
            pass

    enforce(b"0")
    yield
    enforce(b"inf")


def limited_key(moto_url: str, policy: str) -> dict[str, str]:
    """A new user's key, with the rights of this policy."""
    options = {"endpoint_url": moto_url, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    iam = boto3.client("iam", region_name=REGION, **options)
    name = f"monitor-{uuid4().hex}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="power", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    iam.close()
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.mark.parametrize("missing", ["", "ec2:StartInstances", "ec2:DescribeInstances"])
async def test_the_rights_on_the_page_are_enough_and_all_are_needed(
    client: Any, make: Make, monkeypatch: pytest.MonkeyPatch, moto_url: str, missing: str,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    page = (ROOT / "docs" / "power" / "ec2.md").read_text()
    policy = textwrap.dedent(page.partition("```json\n")[2].partition("```")[0])
    policy = re.sub(r'"arn:aws:ec2:[^"]*"', '"*"', policy)
    name = instance(client, "limited")
    for variable, value in limited_key(moto_url, policy.replace(missing or "none", "ec2:RebootInstances")).items():
        monkeypatch.setenv(variable, value)
    request.getfixturevalue("enforced")
    power = make(name, moto_url)  # directly, since a proxy does not keep the signature
    if missing:
        with pytest.raises(Denied, match=f"not authorized to perform: {missing}|UnauthorizedOperation"):
            await (power.start() if "Start" in missing else power.inspect())
    else:
        await power.start()
        await until(power, "running")
        await power.stop()
        assert await power.machines()
