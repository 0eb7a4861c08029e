"""What a capability opens at the worker, call by call, and what it does not; and what wrong secrets meet."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest

from tests.support.programs.capability_scene import AUDIO, PAIR, VIDEO, Caller, Scene, scene
from tests.support.programs.our_peers import SECRET, Joining, Place, until
from wakestream.adapters.config.addresses import network
from wakestream.adapters.net.capability_keys import Signer
from wakestream.adapters.net.connection_limits import Network
from wakestream.adapters.worker.http import auth as callers


@pytest.fixture(autouse=True)
def _no_try_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "AGAIN", 3600.0)


async def test_a_worker_announces_capabilities_also_before_it_has_met_its_hub(place: Place) -> None:
    async with place.worker(Joining()) as alone, aiohttp.ClientSession() as session:
        _, health = await Caller(session, alone.address, None)("GET", "health")
        assert "capability" in health["features"]
        signer = Signer.fresh()
        token = signer.mint("j1", "lic", "gpu", time.time(), time.time() + 900)
        status, body = await Caller(session, alone.address, token)("POST", "check_files", json={"files": []})
        assert (status, body["error"], body["retry"]) == (503, "not_ready", "1")
    async with scene(place) as here:
        _, health = await here.bearer(None)("GET", "health")
        assert "capability" in health["features"]


async def test_each_call_about_another_job_s_task_is_refused(place: Place) -> None:
    async with scene(place, held=True) as here:
        mine, other = here.job("mine"), here.job("other")
        await mine.upload()
        task = await mine.submit()
        assert here.worker.queue.state.tasks[task].holders == {"mine"}
        tries = [
            await other("GET", f"progress?task_id={task}"),
            await other("GET", f"previews?task_id={task}"),
            await other("GET", f"download?task_id={task}"),
            await other("POST", "cancel", json={"task_id": task}),
            await other("POST", "cancel", json={"task_id": task, "job_id": "mine"}),
            await other("POST", "submit", json={**PAIR, "job_id": "mine"}),
            await mine("POST", "cancel", json={"task_id": task, "job_id": "other"}),
            await mine("DELETE", "/files/" + "0" * 64, headers={"Tus-Resumable": "1.0.0"}),
        ]
        assert [(status, body["error"]) for status, body in tries] == [(403, "forbidden")] * len(tries)
        assert here.worker.queue.state.tasks[task].holders == {"mine"}
        listed = [(await caller.data("GET", "queue"))["tasks"] for caller in (mine, other, here.bearer(SECRET))]
        assert [[one["task_id"] for one in tasks] for tasks in listed] == [[task], [], [task]]
        here.engine.go_on.set()


async def test_an_existing_result_is_shared_with_a_job_for_the_same_files(place: Place) -> None:
    async with scene(place) as here:
        first, second = here.job("first", "one"), here.job("second", "two")
        await first.upload()
        task = await first.submit()
        await until(lambda: here.worker.queue.state.tasks[task].status == "done")
        assert (await second("GET", f"download?task_id={task}"))[0] == 403
        assert (await second("POST", "submit", json=PAIR))[0] == 404
        await second.upload()
        answer = await second.data("POST", "submit", json=PAIR)
        assert (answer["task_id"], answer["cached"]) == (task, True)
        assert (await second("GET", f"download?task_id={task}"))[1]["bytes"] == VIDEO + AUDIO
    async with scene(place) as here:  # also after the worker was started again
        # the hub is a new one with a new key, and so is the worker: what it keeps is whose the result is
        assert (await here.job("second", "two")("GET", f"download?task_id={task}"))[0] == 200
        assert (await here.job("third", "two")("GET", f"download?task_id={task}"))[0] == 403


@pytest.mark.parametrize(("jobs", "gone"), [(("first", "second"), 403), (("job-A", "job-A"), 404)])
async def test_a_job_that_gives_a_shared_task_up_stops_it_for_itself_alone(
    place: Place, jobs: tuple[str, str], gone: int
) -> None:
    async with scene(place, held=True) as here:
        first, second = (here.job(job, owner) for job, owner in zip(jobs, ("one", "two"), strict=True))
        await first.upload()
        await second.upload()
        task = await first.submit()
        assert await second.submit() == task
        left = await first.data("POST", "cancel", json={"task_id": task})
        assert (left["stopped"], left["holders"]) == (False, 1)
        assert (await first("GET", f"progress?task_id={task}"))[0] == gone
        assert (await second("GET", f"progress?task_id={task}"))[0] == 200
        here.engine.go_on.set()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"gpu": "another"}, (403, "forbidden")),
        ({"now": 1000.0, "expires": 1900.0}, (401, "expired")),
        ({"owner": ""}, (403, "forbidden")),
        ({"job": ""}, (403, "forbidden")),
        ({"job": "", "owner": ""}, (403, "forbidden")),
    ],
)
async def test_a_capability_for_another_worker_or_time_or_for_nobody_is_refused(
    place: Place, wrong: dict[str, Any], expected: tuple[int, str]
) -> None:
    async with scene(place) as here:
        caller = here.bearer(here.token(**{"job": "j1", **wrong}))
        for method, path in (("POST", "submit"), ("GET", "queue"), ("POST", "/files/"), ("GET", "nothing-here")):
            status, body = await caller(method, path)
            assert (status, body["error"]) == expected


async def test_wrong_secrets_slow_a_caller_down_and_the_right_one_still_works(place: Place) -> None:
    async with scene(place) as here:
        forged = Signer.fresh().mint("j1", "lic", "gpu", time.time(), time.time() + 900)
        for number in range(callers.TRIES):
            wrong = here.bearer(forged if number % 2 else f"guess-{number}")
            assert (await wrong("GET", "queue"))[0] == 401
        for guess in ("guess", forged):
            status, body = await here.bearer(guess)("GET", "queue")
            assert (status, body["error"]) == (429, "too_many")
            assert 1 <= int(body["retry"]) <= callers.AGAIN
        assert (await here.bearer(SECRET)("GET", "queue"))[0] == 200
        assert (await here.bearer(here.token("j1"))("GET", "queue"))[0] == 200
        assert (await here.bearer(None)("GET", "queue"))[0] == 401  # which is no guess
        assert (await here.bearer(None)("GET", "health"))[0] == 200


@pytest.mark.parametrize(("named", "another"), [((network("127.0.0.0/8"),), 401), ((), 429)])
async def test_only_a_known_proxy_names_its_caller(place: Place, named: tuple[Network, ...], another: int) -> None:
    async def guess(here: Scene, address: str) -> int:
        said = {"X-Forwarded-For": f"203.0.113.1, {address}"}
        return (await here.bearer("guess")("GET", "queue", headers=said))[0]

    async with scene(place, proxies=named) as here:
        for _ in range(callers.TRIES):
            assert await guess(here, "192.0.2.66") == 401
        assert await guess(here, "192.0.2.66") == 429
        assert await guess(here, "192.0.2.7") == another


async def test_revoking_a_license_stops_its_tasks_and_ends_its_capabilities_and_open_calls(place: Place) -> None:
    async with scene(place, held=True) as here:
        license_, _ = place.book.issue("client", "", time.time())
        here.hub.licenses.look()
        mine, other = here.job("mine", license_.id), here.job("other", "stays")
        await mine.upload()
        task = await mine.submit()
        open_call = asyncio.create_task(never_ending(here, mine))
        await until(lambda: bool(here.worker.server.callers._inside))
        place.book.revoke(license_.id, time.time())
        here.hub.licenses.look()
        with pytest.raises(aiohttp.ClientError):
            await open_call
        await here.engine.stopped.wait()
        await until(lambda: here.worker.queue.state.tasks[task].status == "cancelled")
        status, body = await mine("GET", "queue")
        assert (status, body["error"]) == (403, "forbidden")
        assert (await other("GET", "queue"))[0] == 200
        here.engine.go_on.set()


async def never_ending(here: Scene, caller: Caller) -> None:
    begun = asyncio.Event()

    async def body() -> AsyncGenerator[bytes, None]:
        yield b'{"files":'
        begun.set()
        await asyncio.Event().wait()

    await caller("POST", "check_files", data=body())
