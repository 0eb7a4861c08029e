"""The shipped cases for power providers, on `ec2` and `libcloud` against moto."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.power.api_world import serving
from tests.support.power.ec2_world import TIMEOUT, Ec2World, LibcloudWorld, account
from tests.support.power.stand_ins import needs_clouds
from wakestream.adapters.testing import power_suite

pytestmark = needs_clouds()


@pytest.fixture(scope="module")
def client(moto_url: str) -> Iterator[Any]:
    client = account(moto_url)
    yield client
    client.close()


class TestEc2(power_suite.PowerConformance):
    kind: type[Ec2World | LibcloudWorld] = Ec2World

    @pytest.fixture
    async def world(self, moto_url: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
        monkeypatch.setattr(power_suite, "CALL_TIMEOUT", TIMEOUT)
        monkeypatch.setattr(power_suite, "WITHIN", 50.0)
        async with serving(self.kind(moto_url, client)) as world:
            yield world


class TestLibcloud(TestEc2):
    kind = LibcloudWorld
