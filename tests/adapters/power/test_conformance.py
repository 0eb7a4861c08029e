"""The shipped cases for power providers, on the stand-in of each HTTP provider."""

from collections.abc import AsyncIterator

import pytest

from tests.support.power.autodl_api import AutodlWorld
from tests.support.power.compshare_api import CompshareWorld
from tests.support.power.docker_engine import DockerWorld
from tests.support.power.redfish_bmc import RedfishWorld
from tests.support.power.runpod_api import RunpodWorld
from tests.support.power.vast_api import VastWorld
from wakestream.adapters.testing.http_stand_in import HttpStandIn, serving
from wakestream.adapters.testing.power_suite import PowerConformance


class Served(PowerConformance):
    kind: type[HttpStandIn]

    @pytest.fixture
    async def world(self) -> AsyncIterator[HttpStandIn]:
        async with serving(self.kind()) as world:
            yield world


class TestCompshare(Served):
    kind = CompshareWorld


class TestRunpod(Served):
    kind = RunpodWorld


class TestVast(Served):
    kind = VastWorld


class TestAutodl(Served):
    kind = AutodlWorld


class TestDocker(Served):
    kind = DockerWorld


class TestRedfish(Served):
    kind = RedfishWorld
