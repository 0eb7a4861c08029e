"""`wakestream doctor` against real programs: all well, and each thing that a job needs broken in its turn."""

import asyncio
import contextlib
import errno
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from email.utils import formatdate
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from tests.support.engines.pair import PairEngine
from tests.support.programs import depot_scene, plain_server
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import SECRET, Joining, Place, gpu_online, until
from tests.support.streams.submitting import submitting
from wakestream.adapters.cli.demo.processes import house
from wakestream.adapters.cli.doctor import hub as there_room
from wakestream.adapters.cli.doctor import local as here
from wakestream.adapters.cli.doctor.local import daemon_stands
from wakestream.adapters.cli.doctor.result import CheckResult
from wakestream.adapters.cli.doctor.run import examine
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.daemon.program import DaemonConfig, running_daemon
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.testing.fakes import FakePower
from wakestream.adapters.testing.power_watch import no_health
from wakestream.adapters.worker.program import running_worker
from wakestream.operators.model.engine import Readiness
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.jobs.daemon_pipeline import DURABLE
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.power_machine import Orphans, PowerPolicy
from wakestream.streams.outbox.facts import FileStat
from wakestream.streams.protocol import messages as m

JSON = {"content_type": "application/json"}


class Scene:
    """Hub, worker and monitor in this loop, and the settings of one who asks."""

    def __init__(self, tmp_path: Path, stack: contextlib.AsyncExitStack) -> None:
        self.place, self.stack, self.folder = Place(tmp_path), stack, tmp_path
        self.settings = Settings()
        self.hubs: list[HubServer] = []

    @property
    def running(self) -> HubServer:
        """The hub."""
        return self.hubs[-1]

    async def hub(self) -> None:
        self.hubs += [await self.stack.enter_async_context(self.place.hub())]
        self.settings = Settings(
            hub_url=self.place.hub_url, api_secret=Secret(SECRET), key=Secret(self.place.keys["client"])
        )

    async def worker(self, **more: Any) -> None:
        running = await self.stack.enter_async_context(self.place.worker(Joining(), **more))
        self.settings = replace(self.settings, worker_url=running.server.address)
        await gpu_online(self.running)

    async def nameless_worker(self, url: str | None = None) -> None:
        """A worker that tells the hub nothing of itself but perhaps where it is."""
        register = m.Register(role="worker", token=self.place.keys["worker"], gpu="gpu", url=url)
        link = Link(self.place.hub_url, lambda: register)
        self.stack.push_async_callback(link.close)
        link.events.subscribe(lambda event: link.send(m.Online()) if isinstance(event, LinkUp) else None)
        await gpu_online(self.running)

    async def field_worker(self, **refuses: Any) -> str:
        """One that takes no capabilities, or has a proxy that refuses uploads like this; where it is."""

        async def answer(request: web.Request) -> web.Response:
            if request.path.endswith("health"):
                return web.json_response({"code": 0, "msg": "ok", "initialized": True, "queue": {}})
            if refuses and request.path.endswith("check_files"):
                return web.json_response({"code": 0, "data": {}, "msg": "ok"})
            return web.Response(**refuses or {"status": 401, "text": '{"code": 401, "msg": "no"}', **JSON})

        return await self.stack.enter_async_context(plain_server.answering(answer))

    async def monitor(self, *, on: bool, orphans: Orphans = "adopt") -> None:
        key = self.place.keys["monitor"]
        link = Link(self.place.hub_url, lambda: m.Register(role="gpu_monitor", token=key, gpus=("gpu",)))
        self.stack.push_async_callback(link.close)
        monitor = Monitor(PowerPolicy(gpu="gpu", orphans=orphans), Random(1))
        program = MonitorProgram(monitor, link, FakePower(on=on), no_health)
        stop = asyncio.Event()
        task = asyncio.create_task(program.run(stop))
        self.stack.push_async_callback(lambda: task)
        self.stack.callback(stop.set)
        await until(lambda: link.up and program.machine.state != "unknown")

    async def depot(self, **more: Any) -> None:
        """Our own depot is connected."""
        _, key = self.place.book.issue("depot", "", time.time())
        settings = depot_scene.config(self.folder / "depot", key=Secret(key), **more)
        await self.stack.enter_async_context(running_worker(settings, lambda at: Link(self.place.hub_url, at)))
        await until(lambda: self.running.state.depot_up)

    async def look(self, wake_within: float | None = None) -> dict[str, CheckResult]:
        found = [finding async for finding in examine(self.settings, self.folder, wake_within=wake_within)]
        return {finding.check: finding for finding in found}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        yield Scene(tmp_path, stack)


async def test_a_healthy_system_passes_all_checks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "LITTLE_SPACE", 1)  # however full the disk of this machine is
    await scene.hub()
    await scene.monitor(on=True)
    await scene.worker()
    found = await scene.look()
    assert {check: finding.level for check, finding in found.items()} == dict.fromkeys(
        ("settings", "license", "disk", "ffmpeg", "hub", "clock", "monitor", "gpu", "worker", "secret", "upload"), "ok"
    )
    assert f"(wakestream {version('wakestream')}: " in found["hub"].says
    assert not scene.running.refused  # a look is no attempt to get in
    assert "the GPU is running" in found["monitor"].says
    assert "test upload of 2 MiB succeeded" in found["upload"].says


@pytest.mark.parametrize(
    ("orphans", "level", "says", "do"),
    [("adopt", "ok", "taken over, and stopped when", ""), ("report", "warning", "left alone", "switch it off")],
)
async def test_a_gpu_found_running_is_warned_of_where_nothing_switches_it_off(
    scene: Scene, orphans: Orphans, level: str, says: str, do: str
) -> None:
    await scene.hub()
    await scene.monitor(on=True, orphans=orphans)
    await scene.worker()
    gpu = (await scene.look())["gpu"]
    assert (gpu.level, says in gpu.says, do in gpu.todo) == (level, True, True), gpu


GAVE_UP = frozenset({"failed", "timed_out", "retrying"})
"""What happens to a job that does not get through; a daemon tries again."""


async def _fate(scene: Scene) -> str:
    """What becomes of a job of a daemon with these settings: `done`, or the first thing that went wrong."""
    user = User(scene.folder)
    policy = replace(DURABLE, lost=0.1, poll_every=0.05, health_every=0.05)
    config = DaemonConfig(scene.folder / "daemon")
    async with asyncio.timeout(100), running_daemon(config, scene.settings, policy) as it:
        at = [FileStat(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in (user.video, user.audio)]
        with it.outbox.feed.follow("job-1", lambda: None) as told:
            await it.outbox.submit(
                submitting(0, "job-1", dict(zip(("video", "audio"), at, strict=True)), {"video": str(user.out)})
            )
            while (item := await told.next()) is not None:
                if item.kind in GAVE_UP | {"done"}:
                    return item.kind
    raise AssertionError("a job has an end")


@pytest.mark.parametrize(
    ("broken", "says"),
    [("nothing", ""), ("address", "connection refused"), ("no address", "--public-url"), ("secret", ""),
     ("secret at a field worker", "the same"), ("no secret at a field worker", "the same"), ("settings", "")],
)  # fmt: skip
async def test_the_doctor_fails_exactly_where_the_daemons_jobs_fail(scene: Scene, broken: str, says: str) -> None:
    await scene.hub()
    await scene.monitor(on=True)
    if broken == "no address":
        await scene.nameless_worker()
    elif "field worker" in broken:
        await scene.nameless_worker(url=await scene.field_worker())
    else:
        await scene.worker(**({"public_url": "http://127.0.0.1:9"} if broken == "address" else {}))
    elsewhere = "http://127.0.0.1:9" if broken == "settings" else None  # the hub's address goes before it
    secret = Secret("wrong") if "secret" in broken else scene.settings.api_secret
    secret = None if "no secret" in broken else secret
    scene.settings = replace(scene.settings, worker_url=elsewhere, api_secret=secret)
    found = await scene.look()
    faults = {check: f"{one.says} {one.todo}" for check, one in found.items() if one.level == "fault"}
    assert (await _fate(scene) == "done") == (not faults), faults
    assert [says] == [says for text in faults.values() if says in text] or not says, faults
    assert found["worker"].level != "skipped"


DOWN, KEY = "ws://127.0.0.1:9/dsp", Secret("ws_client_" + "A" * 43)
ABSENT = {"monitor": "skipped", "worker": "skipped"}


@pytest.mark.parametrize(
    ("runs", "settings", "wake", "levels", "says"),
    [
        pytest.param((), {"hub_url": DOWN, "key": KEY}, None, {"hub": "fault", **ABSENT},
                     {"hub": "nothing listens there (connection refused).*firewall",
                      **dict.fromkeys(ABSENT, "not checked: the hub is down")}, id="no hub"),
        pytest.param((), {"hub_url": DOWN, "key": KEY, "ca": Path("none.pem")}, None, {"settings": "fault"},
                     {"settings": "none.pem cannot be read"}, id="an authority that cannot be read"),
        pytest.param(("hub",), {"key": KEY}, None, {"license": "fault", "monitor": "skipped"},
                     {"license": "does not know the license key"}, id="an unknown license"),
        pytest.param(("hub",), {}, None, {"monitor": "fault"},
                     {"monitor": "the GPU cannot be started.*wakestream monitor"}, id="no monitor"),
        pytest.param(("hub",), {}, 5.0, {"wake": "fault"}, {"wake": "no monitor is connected"}, id="no start"),
        pytest.param(("hub", "monitor", "worker"), {}, 5.0, {"wake": "ok"}, {"wake": "the GPU is already online"},
                     id="a GPU that is on need not be waited for"),
        # Jobs need no secret here.
        pytest.param(("hub", "monitor", "worker"), {"api_secret": Secret("wrong")}, None,
                     {"secret": "warning", "upload": None}, {"secret": "HEYGEM_API_SECRET must be the same"},
                     id="a wrong secret"),
        pytest.param(("hub", "monitor", "worker"), {"worker_url": None}, None, {"secret": "ok"},
                     {"secret": "WAKESTREAM_SECRET_HOSTS"}, id="a secret that is only not sent to the hub's worker"),
    ],
)  # fmt: skip
async def test_what_is_broken_is_found_where_it_is_and_says_what_to_do(
    scene: Scene, runs: tuple[str, ...], settings: dict[str, Any], wake: float | None,
    levels: dict[str, str | None], says: dict[str, str],
) -> None:  # fmt: skip
    for program in runs:
        await getattr(scene, program)(**({"on": True} if program == "monitor" else {}))
    scene.settings = replace(scene.settings, **settings)
    found = await scene.look(wake)
    assert {check: found[check].level if check in found else None for check in levels} == levels
    for check, words in says.items():
        assert re.search(words.replace("(", r"\(").replace(")", r"\)"), f"{found[check].says} {found[check].todo}")


async def monitor_of(scene: Scene, gpu: str) -> Link:
    """A monitor that answers, and starts nothing: there is no capacity."""
    key = scene.place.book.issue("monitor", gpu, 0.0)[1]
    link = Link(scene.place.hub_url, lambda: m.Register(role="gpu_monitor", token=key, gpus=(gpu,)))
    scene.stack.push_async_callback(link.close)

    def answer(event: object) -> None:
        if isinstance(event, m.Boot):
            link.send(m.PowerState(gpu=gpu, state="no_capacity", msg="sold out"))
        elif isinstance(event, m.StatusQuery):  # without an answer the doctor waits for one
            link.send(m.StatusResponse(request_id=event.request_id, status="stopped", source="gpu_monitor"))

    link.events.subscribe(answer)
    await until(lambda: link.up)
    return link


async def test_each_monitor_is_asked_and_a_gpu_without_one_is_a_fault(scene: Scene) -> None:
    await scene.hub()
    hub = scene.running
    studio, attic = await monitor_of(scene, "studio"), await monitor_of(scene, "attic")
    studio.send(m.PowerState(gpu="studio", state="off"))
    attic.send(m.PowerState(gpu="attic", state="off"))
    await until(lambda: [gpu.phase for gpu in hub.state.gpus.values()] == ["off", "off"])
    await attic.close()
    await until(lambda: len(hub.state.monitors) == 1)
    found = [finding async for finding in examine(scene.settings, scene.folder) if finding.check == "monitor"]
    assert [(one.level, one.says) for one in found] == [
        ("ok", "GPU studio: the monitor responds: the GPU is stopped"),
        ("fault", "GPU attic: its monitor is not connected, so it cannot be started"),
    ]


async def test_a_kind_that_a_worker_does_not_offer_is_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    why = "kind face is not offered: node X is missing in ComfyUI; install its custom nodes"

    async def ready(_: object) -> Readiness:
        return Readiness(True, why)

    monkeypatch.setattr(PairEngine, "ready", ready)
    await scene.hub()
    await scene.worker()
    found = await scene.look()
    assert (found["worker"].level, found["worker"].says) == ("warning", why)


async def test_a_proxy_that_blocks_large_requests_fails_the_trial_upload(scene: Scene) -> None:
    await scene.hub()
    await scene.monitor(on=True)
    proxy = {"status": 413, "text": "<html>413 Request Entity Too Large</html>", "content_type": "text/html"}
    scene.settings = replace(scene.settings, worker_url=await scene.field_worker(**proxy))
    found = await scene.look()
    assert found["upload"].level == "fault"
    assert "client_max_body_size" in found["upload"].todo


@pytest.mark.parametrize(("ahead", "level"), [(0, "ok"), (-30, "warning"), (3600, "fault")])
async def test_a_wrong_clock_is_reported(scene: Scene, ahead: int, level: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(headers={"Date": formatdate(time.time() + ahead, usegmt=True)})

    url = await scene.stack.enter_async_context(plain_server.answering(answer))
    (found,) = there_room.clocks_agree(there_room.skew(await there_room.headers_of(f"{url}/dsp")))
    assert (found.check, found.level) == ("clock", level)


async def test_a_missing_worker_is_an_error_and_a_stopped_gpu_is_not(scene: Scene) -> None:
    await scene.hub()
    await scene.monitor(on=False)
    scene.settings = replace(scene.settings, worker_url="http://127.0.0.1:9")
    found = await scene.look()
    assert found["worker"].level == "skipped"
    assert "--wake" in found["worker"].todo
    await scene.stack.aclose()
    await scene.hub()
    await scene.monitor(on=True)
    scene.settings = replace(scene.settings, worker_url="http://127.0.0.1:9")
    assert (await scene.look())["worker"].level == "fault"


async def test_a_gpu_whose_worker_is_away_is_advised_to_look_at_the_worker() -> None:
    async def ask(query: object, _: type[object], /) -> m.HubStatus | None:
        lost = {"gpu": "studio", "phase": "lost"}
        return m.HubStatus(request_id="-", gpus=(lost,)) if isinstance(query, m.HubStatusQuery) else None

    told = there_room.Told(features=frozenset({"hub_status"}))
    *_, gpu = [finding async for finding in there_room.gpus_stand(ask, told)]  # type: ignore[arg-type]
    assert (gpu.level, "wakestream worker" in gpu.todo) == ("warning", True)


async def test_an_unreadable_provider_state_and_missing_programs_are_reported(scene: Scene) -> None:
    scene.settings = Settings(
        power_start=("no-such-program-here",),
        power_stop=(sys.executable, "-c", ""),
        power_inspect=(sys.executable, "-c", "print('perhaps')"),
        engine_command=("no-such-engine-here", "{video}"),
        record=scene.folder / "missing" / "there",
    )
    found = [finding async for finding in examine(scene.settings, scene.folder)]
    faults = "".join(f"\n{finding.check}: {finding.says}" for finding in found if finding.level == "fault")
    for words in (
        "the provider does not report the machine's state", "[power] start: no-such-program-here is not a program",
        "no-such-engine-here is not an executable program", "\nrecord: ",
    ):  # fmt: skip
        assert words in faults


@pytest.mark.parametrize(("word", "level"), [("no_capacity", "warning"), ("failed", "warning"), ("running", "ok")])
async def test_an_unhealthy_machine_is_reported_with_advice(scene: Scene, word: str, level: str) -> None:
    says = (sys.executable, "-c", f"print({word!r})")
    scene.settings = Settings(power_start=says, power_stop=says, power_inspect=says)
    found = [finding async for finding in examine(scene.settings, scene.folder) if finding.check == "power"]
    assert [(finding.level, bool(finding.todo)) for finding in found] == [(level, level != "ok")]


async def test_the_command_starts_a_stopped_gpu_and_prints_json(user: User, tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    monitor_came = asyncio.Event()

    def hear(program: str, line: str) -> None:
        if program == "monitor" and "connected to" in line:
            monitor_came.set()

    async with house(tmp_path / "house", hear, boot_seconds=0.2, idle_after=60.0) as running:
        user.at_home(running.settings)
        await monitor_came.wait()
        ran = await user.does("doctor", "--wake", "--json", HEYGEM_SERVER_URL=str(running.settings.worker_url))
    found = {one["check"]: one for one in ran.events}
    assert "came online after" in found["wake"]["says"]
    assert found["upload"]["level"] == found["worker"]["level"] == "ok"


async def test_a_provider_error_is_reported_for_the_gpu_in_its_words(scene: Scene) -> None:
    await scene.hub()
    link = await monitor_of(scene, "studio")
    gpus = scene.running.state.gpus
    for phase, level in (("failed", "warning"), ("no_capacity", "warning"), ("off", "ok"), ("unknown", "fault")):
        link.send(m.PowerState(gpu="studio", state=phase, msg="the provider's words"))
        await until(lambda: "studio" in gpus and gpus["studio"].phase == phase)  # noqa: B023 - called within the turn
        found = (await scene.look())["gpu"]
        assert (found.level, "the provider's words" in found.says) == (level, level != "ok"), phase
        assert ("monitor's log" in found.todo) == (level != "ok")


async def test_an_unreadable_daemon_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, **_: object) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "exists", closed)  # as it does below a folder that may not be entered
    (found,) = [finding async for finding in daemon_stands(Settings(), tmp_path)]
    assert found.level == "fault"
    assert os.strerror(errno.EACCES) in found.says


async def test_a_daemon_is_looked_at_and_so_is_its_folder(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.hub()
    state = scene.folder / "not" / "there"

    async def daemons(settings: Settings) -> CheckResult:
        (found,) = [finding async for finding in daemon_stands(settings, state)]
        return found

    assert (await daemons(scene.settings)).level == "skipped"
    assert not state.exists()
    async with running_daemon(DaemonConfig(state), scene.settings):
        peers = scene.running.state.connections
        await until(lambda: any(peer.role for peer in peers.values()))
        assert (await daemons(scene.settings)).level == "ok"
        elsewhere = await daemons(replace(scene.settings, hub_url="ws://127.0.0.1:9/dsp"))
        assert (elsewhere.level, "--hub" in elsewhere.todo) == ("warning", True)
    async with running_daemon(DaemonConfig(state), replace(scene.settings, hub_url="ws://127.0.0.1:9/dsp")):
        alone = await daemons(replace(scene.settings, hub_url="ws://127.0.0.1:9/dsp"))
        assert (alone.level, "not connected" in alone.says) == ("warning", True)

    for number, todo in ((errno.ENOSPC, "free some space"), (errno.EROFS, "--state")):

        def refuse(_: Path, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("wakestream.adapters.cli.doctor.local.written_to", refuse)
        broken = await daemons(scene.settings)
        assert (broken.level, os.strerror(number) in broken.says, todo in broken.todo) == ("fault", True, True)
        results = (await scene.look())["disk"]
        assert (results.level, "free some space" in results.todo) == ("fault", number == errno.ENOSPC)


async def test_after_a_failed_start_the_reason_is_reported(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.hub()
    await monitor_of(scene, "studio")
    gpus, first = scene.running.state.gpus, there_room.first

    async def first_in_time(link: Link, answer: Any, within: float, question: m.Message | None = None) -> Any:
        """The time for a start is over when the hub knows that it failed."""
        if not isinstance(question, m.Boot):
            return await first(link, answer, within, question)
        link.send(question)
        await until(lambda: gpus["studio"].phase == "no_capacity")
        return None

    monkeypatch.setattr(there_room, "first", first_in_time)
    found = await scene.look(wake_within=1.0)
    assert found["wake"].level == "fault"
    assert (found["gpu"].level, "sold out" in found["gpu"].says) == ("warning", True)


async def test_a_depot_takes_a_small_file_gives_it_back_and_removes_it(scene: Scene) -> None:
    await scene.hub()
    await scene.depot()
    found = (await scene.look())["depot"]
    assert (found.level, found.says.startswith("the depot took a small file")) == ("ok", True), found
    assert not [*(scene.folder / "depot" / "files").iterdir()]
    assert not scene.running.state.in_depot


async def test_a_depot_that_is_away_or_full_is_a_warning_that_says_what_to_do(scene: Scene) -> None:
    await scene.hub()
    assert "depot" not in await scene.look(), "this hub has none"
    await scene.depot(size=1000)
    full = (await scene.look())["depot"]
    assert (full.level, "larger --size" in full.says) == ("warning", True), full
    await scene.stack.aclose()
    await scene.hub()
    scene.running.state.depot_of = "license", "depot"
    away = (await scene.look())["depot"]
    assert (away.level, "wakestream depot run" in away.todo) == ("warning", True), away
