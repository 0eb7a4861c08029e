"""The shipped cases for power providers, on `ec2` against moto, which lists 100 machines: no more cases go here."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.power.ec2_world import Ec2World
from tests.support.power.stand_ins import needs_clouds
from wakestream.adapters.testing.http_stand_in import serving
from wakestream.adapters.testing.power_suite import PowerConformance

pytestmark = needs_clouds()


class TestEc2(PowerConformance):
    @pytest.fixture
    async def world(self, moto_url: str, client: Any) -> AsyncIterator[Ec2World]:
        async with serving(Ec2World(moto_url, client)) as world:
            yield world
