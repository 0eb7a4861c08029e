"""The shipped cases for power providers, on the stand-in of each HTTP provider."""

from collections.abc import AsyncIterator

import pytest

from tests.support.power.docker_engine import DockerWorld
from tests.support.power.redfish_bmc import RedfishWorld
from tests.support.power.worlds import WORLDS
from wakestream.adapters.testing.http_stand_in import HttpStandIn, serving
from wakestream.adapters.testing.power_suite import PowerConformance

KINDS = (*WORLDS.values(), DockerWorld, RedfishWorld)


class TestHttpProviders(PowerConformance):
    @pytest.fixture(params=KINDS)
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[HttpStandIn]:
        kind: type[HttpStandIn] = request.param
        async with serving(kind()) as world:
            yield world
