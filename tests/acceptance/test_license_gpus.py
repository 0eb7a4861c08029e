"""Keys that are for one GPU, and names that belong to who used them first: real hub, command line and worker."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect

from tests.support.programs.client_scene import Running, User, clean_environment
from tests.support.programs.hub_scene import Frame, Peer

STATE = ("--state", "hub")
SECRET = "swordfish-0123456789"


async def register(peer: Peer, **what: Any) -> str:
    """`registered`, or the code of the refusal."""
    await peer.send(type="register", **what)
    answer = await peer.first("registered", "error")
    return str(answer.get("code", answer["type"]))


@asynccontextmanager
async def at(url: str) -> AsyncIterator[Peer]:
    async with connect(url) as socket:
        yield Peer(socket)


async def issue(user: User, role: str, *gpus: str) -> str:
    tied = [flag for gpu in gpus for flag in ("--gpu", gpu)]
    ran = await user.does("license", "issue", "--role", role, *tied, *STATE)
    return ran.out.strip()


async def listed(user: User, command: str) -> list[Frame]:
    ran = await user.does(*command.split(), "--json", *STATE)
    return [json.loads(line) for line in ran.out.splitlines()]


def a_hub(user: User) -> Any:
    return user.runs("hub", "--listen", "127.0.0.1:0", *STATE)


def a_worker(url: str, gpu: str) -> tuple[str, ...]:
    return ("worker", "--hub", url, "--gpu", gpu, "--listen", "127.0.0.1:0", "--state", "worker", "--exit-on-refusal")


async def told(user: User, command: tuple[str, ...], key: str, words: str) -> None:
    """A program that tries again and again says why; it is ended then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wakestream.adapters.cli", *command, stderr=PIPE, cwd=user.folder,
        env=clean_environment() | {"WAKESTREAM_KEY": key, "HEYGEM_API_SECRET": SECRET},
    )  # fmt: skip
    assert process.stderr is not None
    while words not in (await process.stderr.readline()).decode():
        assert process.returncode is None
    process.kill()
    await process.wait()


async def test_only_the_issued_key_serves_a_gpu_even_while_its_worker_is_offline(user: User) -> None:
    async with a_hub(user) as hub:
        url = await hub.address()
        mine, other, client = (
            await issue(user, "worker", "studio"),
            await issue(user, "worker"),
            await issue(user, "client"),
        )
        async with at(url) as asking, at(url) as thief:
            assert await register(asking, key=client) == "registered"
            await asking.send(type="gpu.job.submit", request_id="j1", task_type="t", payload={})
            await asking.first("gpu.power.offline")
            assert await register(thief, role="worker", token=other, gpu="studio", url="http://thief:1") == "gpu_taken"
            await told(user, a_worker(url, "studio"), other, "another license has a GPU of this name")
            refused = await user.run(*a_worker(url, "attic"), WAKESTREAM_KEY=mine, HEYGEM_API_SECRET=SECRET)
            assert (refused.code, "this key is for the GPU studio" in refused.err) == (2, True)
            async with at(url) as worker:
                assert await register(worker, role="worker", token=mine, gpu="studio", url="http://w:1") == "registered"
                await worker.send(type="gpu.power.online")
                assert (await asking.first("ack"))["data"]["gpu"] == "studio"


async def test_a_name_stays_with_its_first_user_over_a_kill_until_it_is_released(user: User) -> None:
    first, other = await issue(user, "worker"), await issue(user, "worker")
    hub: Running
    async with a_hub(user) as hub, at(await hub.address()) as worker:
        assert await register(worker, role="worker", token=first, gpu="studio") == "registered"
        hub.process.kill()
        await hub.process.wait()
    async with a_hub(user) as hub:
        url = await hub.address()
        async with at(url) as thief:
            assert await register(thief, role="worker", token=other, gpu="studio") == "gpu_taken"
        of_first = (await listed(user, "license list"))[0]["id"]
        assert (await user.run("license", "release", of_first, *STATE)).code == 0
        async with at(url) as heir:
            assert await register(heir, role="worker", token=other, gpu="studio") == "registered"


async def test_audit_lists_who_used_what_from_where_and_their_rights(user: User) -> None:
    client, worker, tied = (
        await issue(user, "client"),
        await issue(user, "worker"),
        await issue(user, "monitor", "studio"),
    )
    async with a_hub(user) as hub:
        url = await hub.address()
        async with at(url) as one, at(url) as two:
            assert await register(one, key=client) == "registered"
            assert await register(two, role="worker", token=worker, gpu="attic") == "registered"
        hub.process.terminate()
        await hub.process.wait()
        entries = await listed(user, "audit")
    assert [(one["role"], one["gpus"], one["held"], one["address"]) for one in entries] == [
        ("client", [], [], "127.0.0.1"), ("worker", [], ["attic"], "127.0.0.1"), ("monitor", ["studio"], [], None),
    ]  # fmt: skip
    assert [one["may"][0] for one in entries] == ["wake_gpus", "serve_gpus", "report_gpus"]
    assert all(one["last_used"] >= one["issued"] for one in entries[:2])
    assert entries[2]["last_used"] is None
    table = (await user.run("audit", *STATE)).out
    assert "attic (in use)" in table
    assert "report the state of studio" in table
    assert "许可证的任务" in (await user.run("audit", *STATE, "--lang", "zh", PYTHONIOENCODING="utf-8")).out
    kept = b"".join(path.read_bytes() for path in (user.folder / "hub").iterdir() if path.is_file())
    assert not [key for key in (client, worker, tied) if key.encode() in kept]


async def test_a_key_that_was_replaced_works_for_its_time_and_its_connections_end_with_it(user: User) -> None:
    old = await issue(user, "client")
    async with a_hub(user) as hub:
        url = await hub.address()
        (license_,) = await listed(user, "license list")
        new = (await user.run("license", "rotate", license_["id"], *STATE)).out.strip()
        assert new.startswith("ws_client_")
        assert (await listed(user, "audit"))[0]["old_key_until"] > license_["issued"] + 86_000
        async with at(url) as before, at(url) as after:
            assert await register(before, key=old) == await register(after, key=new) == "registered"
            assert await register(after, key=old) == "already_registered"
            newest = (await user.run("license", "rotate", license_["id"], "--old-key-for", "0", *STATE)).out.strip()
            assert await after.closed() == 4403
            assert "this key was replaced" in str(after.socket.close_reason)
            await before.silent()
            async with at(url) as again:
                assert await register(again, key=new) == "unauthorized"
            async with at(url) as again:
                assert await register(again, key=newest) == "registered"
