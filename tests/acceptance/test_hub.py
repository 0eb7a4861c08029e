"""The real hub over real sockets, with peers old and new."""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.log_lines import logged
from tests.support.programs.client_scene import User
from tests.support.programs.here import ran_here
from tests.support.programs.hub_scene import ONLINE, WITHIN, Place
from wakestream.adapters.hub import admission as guard
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.operators.model.errors import JournalError
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture(params=["hub", "front"])
def place(tmp_path: Path, stack: contextlib.AsyncExitStack, request: pytest.FixtureRequest) -> Place:
    return Place(tmp_path / "state", stack, fronted=request.param == "front")


async def test_the_offline_branch_from_submit_to_result(place: Place) -> None:
    await place.hub()
    monitor, client = await place.monitor("gpu"), await place.client()
    payload = {"video_hash": "a", "video_ext": ".mp4", "audio_hash": "b", "audio_ext": ".wav"}
    submit = {"type": "gpu.job.submit", "request_id": "r1", "task_type": "heygem_submit", "payload": payload}
    offline = await client.ask(**submit)
    assert offline["type"] == "gpu.power.offline"
    assert offline["data"] == {"status": "offline", "phase": "booting", "position": 1}
    assert {key: offline[key] for key in ("version", "source", "target", "request_id", "task_type")} == {
        "version": "1.0", "source": "api", "target": "client", "request_id": "r1", "task_type": "heygem_submit",
    }  # fmt: skip
    assert abs(offline["ts"] - time.time()) < 60
    assert await monitor.get() == submit
    await monitor.send(type="gpu.power.booted", status="booted", msg="up", source="gpu_monitor")
    assert (await client.get())["type"] == "gpu.power.booted"
    worker = await place.worker()
    await worker.send(**ONLINE)
    online, alias, ack = [await client.get() for _ in range(3)]
    assert (online["type"], online["data"]["gpu"], online["data"]["url"]) == ("gpu.power.online", "gpu", "http://w:1")
    assert alias["type"] == "gpu_online"
    assert "msg" in alias
    assert (ack["type"], ack["request_id"], ack["data"]["url"]) == ("ack", "r1", "http://w:1")
    assert (await monitor.get())["type"] == "gpu.power.online"
    batch = await worker.get()
    assert batch["type"] == "gpu.job.dispatch.batch"
    job = {**submit, "key": place.keys["client"], "sender_fd": client.fd}
    assert batch["data"]["jobs"] == [job]
    await worker.send(
        type="gpu.job.result", request_id="r1", result={"ok": 1}, key=job["key"], sender_fd=job["sender_fd"]
    )
    result, alias = await client.get(), await client.get()
    assert result == {"type": "gpu.job.result", "request_id": "r1", "result": {"ok": 1}}
    assert alias == {**result, "type": "gpu_task_result"}


async def test_an_old_client_gets_the_old_field_names(place: Place) -> None:
    await place.hub()
    worker, client, monitor = await place.worker(), await place.client(), await place.monitor()
    await client.send(type="gpu_task", request_id="r0", payload={})
    assert [(await client.get())["type"] for _ in range(2)] == ["gpu.power.offline", "gpu_offline"]
    await client.send(type="gpu.job.cancel", request_id="r0")
    await client.silent()  # the hub has read its cancel
    assert (await monitor.get())["request_id"] == "r0"
    await worker.send(**ONLINE)
    assert [(await client.get())["type"] for _ in range(2)] == ["gpu.power.online", "gpu_online"]
    ack = await client.ask(type="gpu_task", request_id="r1", payload={})
    assert (ack["type"], ack["request_id"]) == ("ack", "r1")
    assert (await worker.get())["key"] == place.keys["client"]
    copy = await monitor.get()
    assert copy["request_id"] == "r1"
    assert not {"key", "sender_fd"} & set(copy)


async def test_a_new_client_shows_its_key_in_the_handshake(place: Place) -> None:
    await place.hub()
    peer = await place.connect(additional_headers={"Authorization": f"Bearer {place.keys['client']}"})
    answer = await peer.ask(type="register", device_type="mobile")
    assert (answer["type"], answer["device_type"]) == ("registered", "mobile")
    assert {"grant", "cancel", "done", "late_hashes", "power_state"} <= set(answer["features"])


async def test_another_path_is_not_found(place: Place) -> None:
    await place.hub()
    with pytest.raises(InvalidStatus) as caught:
        await place.connect(place.url.replace("/dsp", "/other"))
    assert caught.value.response.status_code == 404


async def test_connections_over_the_limit_are_refused(place: Place) -> None:
    await place.hub(room=Room(1, 16))
    await place.client()
    with pytest.raises(InvalidStatus) as caught:
        await place.connect()
    assert caught.value.response.status_code == 503


INVALID: list[tuple[str | bytes, str]] = [
    ("hello", "malformed"),
    (b"\xff\xfe\x00", "malformed"),
    ("x" * (64 * 1024 + 1), "too_large"),
    ('{"type":"gpu.dance"}', "unknown_type"),
    ('{"type":"gpu.power.online"}', "forbidden"),
]


async def test_an_invalid_frame_gets_an_error_and_the_connection_stays_open(place: Place) -> None:
    await place.hub()
    for text, code in INVALID:
        client = await place.client()
        await client.socket.send(text)
        error = await client.get()
        assert (error["type"], error["code"], bool(error["msg"])) == ("error", code, True), text
        assert error["msg"] == error["message"]
        await client.silent()


async def test_a_frame_of_exactly_64_kib_is_read(place: Place) -> None:
    await place.hub()
    client = await place.client()
    await client.socket.send('{"type":"ping"}'.ljust(64 * 1024))
    assert await client.get() == {"type": "pong"}


async def test_a_frame_of_a_mebibyte_ends_the_connection_with_1009(place: Place) -> None:
    await place.hub()
    client = await place.client()
    with contextlib.suppress(ConnectionClosed):
        await client.socket.send("x" * 2**20)
    assert await client.closed() == 1009
    assert client.socket.close_reason


async def small_socket(hub: HubServer) -> socket.socket:
    """A connection whose receive buffer is small: what its peer does not read stays at the hub."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", hub.port))
    return raw


async def test_a_stalled_consumer_does_not_delay_the_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_BUFFER", 64 * 1024)
    running = await place.hub()
    worker, other = await place.worker(), await place.client()
    slow = await place.connect(sock=await small_socket(running), max_queue=1)
    assert (await slow.ask(type="register", key=place.keys["client"]))["type"] == "registered"
    slow.socket.transport.pause_reading()
    text = "x" * 50_000
    async with asyncio.timeout(WITHIN):
        while running.connections > 2:
            await worker.send(type="gpu.power.online", data={"status": "online", "msg": text})
            assert (await other.get())["type"] == "gpu.power.online"
            assert (await other.get())["type"] == "gpu_online"
    await other.silent()
    assert running.connections == 2
    slow.socket.transport.abort()  # or else closing it would wait for an answer that cannot be read


async def test_a_worker_that_reads_gets_all_queued_jobs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_BUFFER", 64 * 1024)
    running = await place.hub()
    client, worker = await place.client(), await place.worker()
    for number in range(100):
        await client.ask(type="gpu.job.submit", request_id=f"r{number}", payload={"text": "x" * 10_000})
    for connection in running._sockets.values():  # as on a long way, the system takes little at a time
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await worker.send(**ONLINE)
    jobs: list[str] = []
    while len(jobs) < 100:
        jobs += [job["request_id"] for job in (await worker.get())["data"]["jobs"]]
    assert jobs == [f"r{number}" for number in range(100)]
    await worker.silent()


async def test_a_worker_that_does_not_read_is_disconnected(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_BUFFER", 64 * 1024)
    running = await place.hub()
    client = await place.client()
    for number in range(100):
        await client.ask(type="gpu.job.submit", request_id=f"r{number}", payload={"text": "x" * 10_000})
    slow = await place.connect(sock=await small_socket(running), max_queue=1)
    await slow.ask(type="register", role="worker", token=place.keys["worker"], gpu="gpu", url="http://w:1")
    running._sockets[slow.fd].transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    slow.socket.transport.pause_reading()
    await slow.send(**ONLINE)
    async with asyncio.timeout(WITHIN):
        while slow.fd in running._sockets:
            await client.ask(type="gpu.job.cancel", request_id="r0")
            await client.ask(type="gpu.job.submit", request_id="r0", payload={"text": "x" * 50_000})
    assert running.refused["slow_reader"] == 1
    slow.socket.transport.abort()


async def test_a_ping_flood_without_reading_is_disconnected(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_BUFFER", 64 * 1024)
    running = await place.hub()
    rude = await place.connect(sock=await small_socket(running))
    rude.socket.transport.pause_reading()
    pings = (b"\x89\xfd\0\0\0\0" + b"x" * 125) * 1000  # masked with zeros
    async with asyncio.timeout(WITHIN):
        while running.connections:
            if not rude.socket.transport.is_closing():
                rude.socket.transport.write(pings)
            await asyncio.sleep(0)
    rude.socket.transport.abort()


async def test_connections_per_address_are_limited_and_freed_on_close(place: Place) -> None:
    await place.hub(limits=hub.Limits(per_address=2))
    first, second = await place.client(), await place.client()
    with pytest.raises(InvalidStatus) as refused:
        await place.connect()
    assert refused.value.response.status_code == 429
    assert refused.value.response.headers["Retry-After"] == "5"
    said = (refused.value.response.body or b"").decode()
    assert ("too many connections from one address, 2 at most" in said, "--per-address" in said) == (True, True), said
    await first.socket.close()
    await second.silent()
    assert (await (await place.connect()).ask(type="ping")) == {"type": "pong"}


async def test_a_stop_does_not_wait_for_half_open_handshakes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_OPEN_WITHIN", 1000.0)
    outlasts = place.stack
    async with contextlib.AsyncExitStack() as place.stack:
        running = await place.hub()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        place.stack = outlasts
        peer = await place.connect()
    assert await peer.closed() == 1001
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


async def test_messages_too_large_for_their_receivers_are_not_relayed(place: Place) -> None:
    await place.hub()
    monitor, client = await place.monitor("gpu"), await place.client()
    await monitor.send(type="gpu.power.booted", msg="m" * (64 * 1024 - 50))
    await monitor.silent()
    await client.silent()


async def test_replies_wait_for_their_facts_on_disk_and_keep_their_order(place: Place) -> None:
    class Gate(FakeJournal[f.Fact]):
        """A slow disk: nothing is kept while the gate is closed."""

        open = asyncio.Event()
        asked = asyncio.Event()
        batches: list[int] = []  # noqa: RUF012 - one test's

        async def append(self, facts: Sequence[f.Fact]) -> None:
            self.asked.set()
            await self.open.wait()
            self.batches.append(len(facts))
            await super().append(facts)

    gate = Gate()
    gate.open.set()
    await place.hub(journal=gate)
    client, other = await place.client(), await place.client()
    gate.open.clear()
    gate.asked.clear()
    await client.send(type="gpu.job.submit", request_id="a")
    async with asyncio.timeout(WITHIN):
        await gate.asked.wait()
    await client.send(type="ping")
    for number in range(5):
        await other.send(type="gpu.job.submit", request_id=f"b{number}")
    answer = asyncio.ensure_future(client.get())
    # A whole round trip of another connection's handshake goes by, and still nothing was promised.
    async with connect(place.url) as third:
        assert third.state.name == "OPEN"
    assert not answer.done()
    assert [getattr(fact, "id", None) for fact in gate.read()].count("a") == 0
    gate.open.set()
    assert (await answer)["request_id"] == "a"
    assert (await client.get())["type"] == "pong"
    assert [(await other.get())["request_id"] for _ in range(5)] == [f"b{number}" for number in range(5)]
    assert max(gate.batches) >= 5


async def submit_and_wait_for_the_end(state: Path, journal: FakeJournal[f.Fact]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(WITHIN))
        place = Place(state, stack)
        await place.hub(journal=journal)
        client = await place.client()
        await client.send(type="gpu.job.submit", request_id="a")
        raise AssertionError(await client.get())


async def test_a_hub_whose_journal_fails_sends_no_reply_and_exits(tmp_path: Path) -> None:
    class Broken(FakeJournal[f.Fact]):
        """A full disk, from the first job on."""

        async def append(self, facts: Sequence[f.Fact]) -> None:
            if any(isinstance(fact, f.JobQueued) for fact in facts):
                raise OSError("no space")
            await super().append(facts)

    with pytest.raises(JournalError, match="no space"):
        await submit_and_wait_for_the_end(tmp_path / "state", Broken())


# The program


async def test_the_program_logs_its_address_and_stops_on_request(
    tmp_path: Path, stack: contextlib.AsyncExitStack
) -> None:
    place = Place(tmp_path / "state", stack)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wakestream.adapters.cli", "hub", "--listen", "127.0.0.1:0",
        "--state", str(place.book.path.parent), "--exit-with-stdin", "--open-roles", "worker",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = (await process.stdout.readline()).decode()
        assert line.startswith("wakestream hub listening on ws://127.0.0.1:")
        place.url = line.split()[-1]
        await place.client()
        process.stdin.close()
        _, errors = await process.communicate()
        assert process.returncode == 0
        assert "closed network" in errors.decode()
        assert place.keys["client"] not in errors.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_taken_port_ends_the_program_with_2_and_a_sentence(user: User, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = await user.run("hub", "--listen", f"127.0.0.1:{port}", "--state", str(tmp_path))
    assert (ran.code, "is taken" in ran.err) == (2, True)
    assert "Traceback" not in ran.err
    assert "there are no licenses yet" not in ran.err


def test_a_damaged_license_file_ends_the_program_with_2_and_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "licenses.json").write_text("rubbish")
    ran_here("hub", "--listen", "127.0.0.1:0", "--state", tmp_path).says("damaged", code=2)
    assert (tmp_path / "licenses.json").read_text() == "rubbish"


@pytest.mark.parametrize("roles", ["client", "worker,king"])
def test_only_worker_and_monitor_can_be_open(tmp_path: Path, roles: str) -> None:
    ran_here("hub", "--state", tmp_path, "--open-roles", roles).says("worker, monitor", code=2)


async def test_an_internal_error_closes_the_connection_whose_frame_led_to_it_and_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await place.hub()
    one, other = await place.client(), await place.client()
    happen = running.happen
    monkeypatch.setattr(running, "happen", lambda event: 1 / 0 if isinstance(event, f.Received) else happen(event))
    with logged("ERROR") as lines:
        await one.send(type="hub.status.query", request_id="a")
        await one.send(type="hub.status.query", request_id="b")
        assert await one.closed() == 1011
    assert [line for line in lines if "internal error on connection" in line] == lines
    assert len(lines) == 1
    monkeypatch.undo()
    assert (await other.ask(type="hub.status.query", request_id="c"))["type"] == "hub.status.response"
