"""Our hub among deployed peers: what each mix of parts does, with peers that behave as the field's do."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.field.desktop import DesktopJobFailedError, DesktopLimits, FieldDesktop
from tests.support.field.monitor import FieldCloud, MonitorTimes, field_monitor
from tests.support.field.phone import field_phone
from tests.support.field.text_worker import field_text_worker
from tests.support.field.worker import field_worker, rendered
from tests.support.mixes import OldMachine, address, idles, our_monitor
from tests.support.programs import our_peers
from tests.support.programs.client_scene import User
from tests.support.programs.hub_scene import Place
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.telemetry.recorder import recording
from wakestream.streams.hub.hub import Limits
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import read_log
from wakestream.streams.replay.replay import replay

QUICK = MonitorTimes().scaled(0.001)
SECRET = "field-secret-0123456789"
OPEN = Limits(open_roles=frozenset({"worker", "monitor"}))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with contextlib.AsyncExitStack() as stack:
        yield Place(tmp_path / "hub", stack)


def ours(hub: HubServer, place: Place, machine: OldMachine) -> dict[str, str]:
    """The environment of our client beside a deployed worker."""
    return {
        "API_SERVER_URL": address(hub), "WAKESTREAM_KEY": place.keys["client"], "HEYGEM_SERVER_URL": machine.url,
        "HEYGEM_API_SECRET": SECRET,
    }  # fmt: skip


def desktop(hub: HubServer, place: Place, worker_url: str = "http://127.0.0.1:9") -> FieldDesktop:
    """One whose license is a client's key; it waits as long as it likes."""
    return FieldDesktop(address(hub), worker_url, license_key=place.keys["client"], limits=DesktopLimits())


async def test_an_unchanged_desktop_renders_with_imported_keys_at_our_hub(place: Place, tmp_path: Path) -> None:
    place.book.admit(["gradio_client", "VIP-2024-0007"], "client", "", 0.0)
    video, audio = tmp_path / "clip.mp4", tmp_path / "speech.wav"
    video.write_bytes(b"v" * 2000)
    audio.write_bytes(b"a" * 2000)
    hub = await place.hub(limits=OPEN)
    async with OldMachine(address(hub)) as machine, field_monitor(hub.url, machine.cloud, times=QUICK) as monitor:
        limits = replace(DesktopLimits(), health_every=60.0)  # it goes by what the hub says
        user = FieldDesktop(address(hub), machine.url, license_key="VIP-2024-0007", limits=limits)
        await our_peers.until(lambda: monitor.status == "stopped")  # its first look at the cloud
        film = await user.render(video, audio)
        assert (user.went_on_by, user.boots, machine.cloud.starts) == ("hub", 1, 1)
        assert film == rendered(audio.read_bytes(), video.read_bytes())
        async with user.texts() as texts:
            assert await texts.text_of("https://video.test/1") == "text of https://video.test/1"


async def test_our_client_and_hub_use_a_deployed_monitor_and_worker(place: Place, user: User) -> None:
    hub = await place.hub(limits=OPEN)
    async with OldMachine(address(hub), secret=SECRET) as machine:
        async with field_monitor(hub.url, machine.cloud, times=QUICK):
            ran = await user.submit(**ours(hub, place, machine))
        assert ran.code == 0, ran.out + ran.err
        assert user.out.read_bytes() == rendered(user.audio.read_bytes(), user.video.read_bytes())
        assert machine.worker is not None
        assert len(machine.worker.renders) == 1


async def test_our_monitor_and_hub_start_and_stop_a_deployed_machine(place: Place, user: User) -> None:
    hub = await place.hub(limits=replace(OPEN, recent=0.5))
    async with (
        OldMachine(address(hub), texts=False) as machine,
        our_monitor(hub.url, machine.cloud, machine.url, key=place.keys["monitor"]) as monitor,
    ):
        old = replace(DesktopLimits(), health_every=60.0)
        who = FieldDesktop(address(hub), machine.url, secret=place.keys["client"], limits=old)
        film = await who.render(user.video, user.audio)
        assert film == rendered(user.audio.read_bytes(), user.video.read_bytes())
        idles(monitor, 1.0)
        await machine.cloud.stopped.wait()
        assert (machine.cloud.starts, machine.cloud.stops) == (1, 1)


async def test_a_deployed_desktop_renders_on_our_worker_without_texts(user: User, tmp_path: Path) -> None:
    us = our_peers.Place(tmp_path / "us")
    us.book.admit([our_peers.SECRET], "client", "", 0.0)  # a deployed desktop's key is its secret
    async with us.hub() as hub, us.worker(our_peers.Joining()) as worker:
        await our_peers.gpu_online(hub)
        who = FieldDesktop(address(hub), worker.address, our_peers.SECRET, us.keys["client"])
        assert await who.render(user.video, user.audio) == user.video.read_bytes() + user.audio.read_bytes()
        hub.state.gpus["gpu"].since -= 60.0  # it has been on for a minute
        async with who.texts() as texts:
            with pytest.raises(DesktopJobFailedError, match="no text worker came to this hub"):
                await texts.text_of("https://video.test/1")


async def test_a_phone_boots_a_gpu_that_a_deployed_monitor_starts_by_our_hub(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    cloud = FieldCloud()
    async with field_monitor(hub.url, cloud, times=QUICK), field_phone(hub.url, place.keys["client"]) as phone:
        asked = await phone.boot()
        await phone.heard.wait("gpu.power.booted", request_id=asked)
        assert cloud.starts == 1


async def test_a_deployed_monitor_stops_the_machine_when_our_hub_reports_it_idle(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    cloud = FieldCloud("running")
    async with field_monitor(hub.url, cloud, times=QUICK) as monitor:
        await monitor.heard.wait("gpu.task.query.response", active_count=0)
        await cloud.stopped.wait()


async def test_a_desktops_texts_and_videos_come_from_a_deployed_text_worker(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    async with (
        field_worker(hub=address(hub)) as gpu,
        field_text_worker(address(hub)),
        desktop(hub, place).texts() as texts,
    ):
        assert await texts.text_of("https://video.test/1") == "text of https://video.test/1"
        assert await texts.video_of("a sunset") == "https://videos.invalid/8.mp4"
        assert gpu.line is not None
        assert not [frame for frame in gpu.line.heard if frame["type"] in ("url", "chatglm_video")]


async def test_a_phones_text_request_starts_the_machine_and_gets_an_answer(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    async with contextlib.AsyncExitStack() as machine:

        async def start() -> None:
            await machine.enter_async_context(field_text_worker(address(hub)))

        cloud = FieldCloud(on_start=start)
        async with field_monitor(hub.url, cloud, times=QUICK), field_phone(hub.url, place.keys["client"]) as phone:
            assert await phone.extract_text("https://video.test/2") == "text of https://video.test/2"
        assert cloud.starts == 1


async def test_a_text_workers_error_ends_the_phones_wait_with_its_message(place: Place) -> None:
    hub = await place.hub(limits=OPEN)

    async def fails(_: str) -> str:
        raise ValueError("no sound")

    async with (
        field_text_worker(address(hub), extract=fails),
        field_phone(hub.url, place.keys["client"]) as phone,
    ):
        assert await phone.extract_text("https://video.test/3") == "错误: no sound"


async def test_a_phones_task_goes_to_the_desktop_of_its_key_and_to_no_other(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    place.keys["other"] = place.book.issue("client", "", 0.0)[1]
    stranger = await place.client(place.keys["other"])
    async with field_phone(hub.url, place.keys["client"]) as phone:
        await phone.mobile_task("render", {"text": "hello"})
        assert (await phone.heard.wait("error"))["message"].startswith("no PC of this license is connected")
        pc = await place.client()
        await phone.mobile_task("render", {"text": "hello"})
        task = await pc.get()
        assert (task["type"], task["payload"], task["key"]) == ("mobile_task", {"text": "hello"}, place.keys["client"])
        assert task["request_id"].startswith("mt_")
        await phone.heard.wait("ack", request_id=task["request_id"])
        await pc.send(type="mobile_task_result", request_id=task["request_id"], sender_fd=task["sender_fd"], ok=True)
        await phone.heard.wait("mobile_task_result", ok=True)
        await stranger.silent()


async def test_the_progress_of_a_render_by_http_reaches_the_phone_of_that_license(place: Place, tmp_path: Path) -> None:
    hub = await place.hub(limits=OPEN)
    video, audio = tmp_path / "clip.mp4", tmp_path / "speech.wav"
    video.write_bytes(b"v" * 2000)
    audio.write_bytes(b"a" * 2000)
    place.keys["other"] = place.book.issue("client", "", 0.0)[1]
    stranger = await place.client(place.keys["other"])
    async with field_worker(hub=address(hub)) as worker, field_phone(hub.url, place.keys["client"]) as phone:
        await desktop(hub, place, worker.url).render(video, audio)
        done = await phone.heard.wait("gpu.task.progress", status="done")
        assert done["progress"] == 100
        assert "key" not in done
        frames = [await stranger.get(), await stranger.get()]
        assert {frame["type"] for frame in frames} <= {"gpu.power.online", "gpu_online"}
        await stranger.silent()


@pytest.mark.parametrize(
    ("frame", "prefix"),
    [({"type": "gpu.job.submit", "payload": {}}, "gt_"), ({"type": "gpu.status.query", "request_id": None}, "sq_")],
)
async def test_a_frame_without_a_request_id_gets_one(place: Place, frame: dict[str, object], prefix: str) -> None:
    await place.hub()
    client = await place.client()
    ids = [(await client.ask(**frame))["request_id"] for _ in range(2)]
    assert all(id_.startswith(prefix) and len(id_) == len(prefix) + 13 for id_ in ids)
    assert ids[0] != ids[1]


async def test_a_boot_without_a_request_id_is_answered_under_one_that_the_hub_made(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    async with field_monitor(hub.url, FieldCloud(), times=QUICK) as monitor:
        client = await place.client()
        await client.send(type="gpu.power.boot")
        boot = await monitor.heard.wait("gpu.power.boot")
        assert boot["request_id"].startswith("boot_")
        assert (await client.get())["request_id"] == boot["request_id"]


async def test_messages_sent_together_with_register_are_handled(place: Place) -> None:
    await place.hub(limits=OPEN)
    client, worker = await place.client(), await place.connect()
    await client.send(type="gpu.job.submit", request_id="r1", payload={})
    assert (await client.get())["type"] == "gpu.power.offline"
    await worker.socket.send('{"type":"register","role":"worker","version":"1.0","ts":1}')
    await worker.socket.send('{"type":"gpu.power.online","status":"running","msg":"up","ts":1}')
    kinds = [(await client.get())["type"] for _ in range(3)]
    assert kinds == ["gpu.power.online", "gpu_online", "ack"]


async def test_a_silent_text_worker_is_not_a_gpu_and_stays_connected(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    async with field_text_worker(address(hub)) as worker:
        client = await place.client()
        answer = await client.ask(type="gpu.job.submit", request_id="r1", payload={})
        assert answer["type"] == "gpu.power.offline"
        assert worker.line is not None
        assert worker.line.socket is not None
        assert not [frame for frame in worker.line.heard if frame["type"] not in ("connected", "registered", "pong")]


async def test_a_recording_with_texts_and_tasks_keeps_the_keys_out_and_replays(place: Place, tmp_path: Path) -> None:
    with recording(tmp_path / "log", "hub", 0, {"policy": plain_config(OPEN)}) as tap:
        async with contextlib.AsyncExitStack() as stack:
            hub = await Place.hub(Place(tmp_path / "hub", stack), limits=OPEN, tap=tap)
            place.url = hub.url
            pc = await place.client()
            async with field_text_worker(address(hub)), field_phone(hub.url, place.keys["client"]) as phone:
                assert await phone.extract_text("https://video.test/1") == "text of https://video.test/1"
                await phone.mobile_task("render", {})
                assert (await pc.get())["type"] == "result"
                assert (await pc.get())["type"] == "mobile_task"
    (path,) = (tmp_path / "log").glob("hub-*.jsonl")
    assert place.keys["client"] not in path.read_text()
    replayed = await replay(read_log(path.read_bytes().splitlines(keepends=True)))
    assert [each.lines() for each in replayed.divergences] == []
