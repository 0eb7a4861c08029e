"""The clouds that have a stand-in here, by the names of their providers."""

from tests.support.power.autodl_api import AutodlWorld
from tests.support.power.compshare_api import CompshareWorld
from tests.support.power.runpod_api import RunpodWorld
from tests.support.power.vast_api import VastWorld

WORLDS = {"compshare": CompshareWorld, "runpod": RunpodWorld, "vast": VastWorld, "autodl": AutodlWorld}
