"""What the hub's metrics say of each GPU."""

import gc
import weakref
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.support.streams.hub_net import Net
from wakestream.adapters.hub.config import HubConfig, Leadership
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.metrics import HubMetrics
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.state import Prices
from wakestream.streams.protocol import depot_messages as d


@pytest.fixture
def net() -> Net:
    return Net(prices=Prices({"lab": 3600.0, "studio": 3600.0}))


def read(net: Net) -> dict[str, dict[tuple[str, ...], float]]:
    """The samples about jobs and GPUs."""
    program: Any = SimpleNamespace(state=net.state, on_fact=None, refused={}, fronts=SimpleNamespace(open=()))
    return samples(of_hub(program, net))


def of_hub(program: Any, net: Net) -> HubMetrics:
    metrics = HubMetrics(Path(), Leadership(), clock=lambda: net.now)
    metrics.lead(program, program)
    return metrics


def samples(metrics: HubMetrics) -> dict[str, dict[tuple[str, ...], float]]:
    families = metrics()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in takewhile(lambda family: "refusals" not in family.name, families):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_plans_and_boot_times_are_those_of_each_gpu(net: Net) -> None:
    for gpu in ("lab", "studio"):
        net.monitor(gpu)
    net.submit(net.join("client", features=("done", "queue")))
    net.pass_time(20)
    said = read(net)
    assert said["wakestream_hub_gpu_planned"]["lab", "wake"] == 1.0
    assert said["wakestream_hub_queue_start_seconds"].keys() == {("first",), ("last",)}
    net.worker("lab")
    assert read(net)["wakestream_hub_boot_eta_seconds"] == {("lab", "50"): 20.0, ("lab", "90"): 20.0}


def test_gpus_in_one_machine_cost_it_once(net: Net) -> None:
    for gpu in ("lab", "studio"):
        fd = net.join("monitor", gpus=(gpu,), features=("power_state",), machines={gpu: "i-1"})
        net.phase(fd, "booted", gpu)
    net.pass_time(100)
    said = read(net)
    assert said["wakestream_hub_gpu_uptime_seconds_total"] == {("lab",): 100.0, ("studio",): 100.0}
    assert said["wakestream_hub_gpu_cost_total"] == {("lab",): 50.0, ("studio",): 50.0}
    assert said["wakestream_hub_gpu_saved_total"] == {("lab",): 0.0, ("studio",): 0.0}


def test_the_depot_tells_what_each_license_has_and_what_became_of_its_jobs(net: Net) -> None:
    program: Any = SimpleNamespace(state=net.state, on_fact=None, refused={}, fronts=SimpleNamespace(open=()))
    metrics = of_hub(program, net)
    file = d.DepotFile(name="video", blake3="a" * 64, size=30)
    delivered = f.JobDelivered("j1", "mine", "lab", (file,), net.now)
    for fact in (
        f.DepotHeld("id-depot", "depot", net.now),
        delivered,
        msgspec.structs.replace(delivered, code="failed"),
    ):
        hub.DECIDER.evolve(net.state, fact)
        program.on_fact(fact)
    said = samples(metrics)
    assert said["wakestream_hub_depot_up"] == {(): 0.0}
    assert said["wakestream_hub_depot_bytes"] == {("mine",): 30.0}
    assert said["wakestream_hub_depot_jobs"]["delivered",] == 1.0
    moves = {"stored": 0.0, "delivered": 1.0, "direct": 0.0, "failed": 1.0}
    assert said["wakestream_hub_depot_jobs_total"] == {(move,): count for move, count in moves.items()}


async def test_a_hub_that_leads_no_more_is_removed_from_memory_before_it_stands_by(tmp_path: Path) -> None:
    metrics, journal = HubMetrics(tmp_path, Leadership()), FakeJournal[f.Fact]()
    async with open_hub(HubConfig(LicenseBook(tmp_path)), journal) as server:
        metrics.lead(server, journal)  # type: ignore[arg-type]
        gone = weakref.ref(server)
        metrics.rest()
    del server, journal
    gc.collect()
    assert gone() is None
