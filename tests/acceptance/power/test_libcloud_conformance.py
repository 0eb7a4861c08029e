"""The shipped cases for power providers, on `libcloud` against moto."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.power.ec2_world import LibcloudWorld, account
from tests.support.power.stand_ins import needs_clouds
from wakestream.adapters.testing.http_stand_in import serving
from wakestream.adapters.testing.power_suite import PowerConformance

pytestmark = needs_clouds()


@pytest.fixture(scope="module")
def client(moto_url: str) -> Iterator[Any]:
    client = account(moto_url)
    yield client
    client.close()


class TestLibcloud(PowerConformance):
    @pytest.fixture
    async def world(self, moto_url: str, client: Any) -> AsyncIterator[LibcloudWorld]:
        async with serving(LibcloudWorld(moto_url, client)) as world:
            yield world
