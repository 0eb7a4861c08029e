"""The shipped cases for power providers, on `libcloud` against moto."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.power.ec2_world import LibcloudWorld
from tests.support.power.stand_ins import needs_clouds
from wakestream.adapters.testing.http_stand_in import serving
from wakestream.adapters.testing.power_suite import PowerConformance

pytestmark = needs_clouds()


class TestLibcloud(PowerConformance):
    @pytest.fixture
    async def world(self, moto_url: str, client: Any) -> AsyncIterator[LibcloudWorld]:
        async with serving(LibcloudWorld(moto_url, client)) as world:
            yield world
