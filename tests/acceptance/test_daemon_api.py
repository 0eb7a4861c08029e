"""The daemon's local API: who is let in, what is refused and how, and events that one can come back to."""

import asyncio
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import RunningDaemon, daemon, state_of
from tests.support.programs.here import Here
from tests.support.programs.our_peers import until
from wakestream.adapters.config import settings
from wakestream.adapters.daemon.discovery import read
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.program import DaemonConfig, running_daemon
from wakestream.adapters.disk.journal import StoredJournal, open_journal
from wakestream.streams.outbox import facts as f


@pytest.fixture
def alone(user: User) -> User:
    """A user whose hub is not there: whatever is asked, no job ends by itself."""
    user.environment |= {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    return user


async def test_the_api_requires_the_token_which_only_its_user_can_read(alone: User) -> None:
    async with daemon(alone) as api:
        for header in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": api.address.token}):
            status, plain = await api.ask("GET", "/api/health", headers=header)
            assert (status, plain["code"]) == (401, "unauthorized")
        status, plain = await api.ask("GET", "/api/health")
        assert (status, plain["program"], plain["connected"]) == (200, "daemon", False)
        assert plain["hub"] == "ws://127.0.0.1:9/dsp"
        assert len(api.address.token) >= 43
        if sys.platform != "win32":
            assert stat.S_IMODE((state_of(alone) / "daemon.json").stat().st_mode) == 0o600


async def test_invalid_jobs_are_refused_with_a_message_and_not_stored(alone: User) -> None:
    empty = alone.folder / "empty.mp4"
    empty.write_bytes(b"")
    nameless = alone.folder / "nameless"
    nameless.write_bytes(b"x")
    bad: list[tuple[dict[str, Any], str]] = [
        ({"video": "clip.mp4"}, "absolute path"),
        ({"video": str(alone.folder / "none.mp4")}, "does not exist"),
        ({"audio": str(alone.folder)}, "is a folder"),
        ({"video": str(empty)}, "is empty"),
        ({"video": str(nameless)}, "has no file extension"),
        ({"output": str(alone.folder / "no" / "out.mp4")}, "does not exist"),
        ({"output": str(alone.video)}, "one of the inputs"),
        ({"video": "a\0b"}, "not a path"),
        ({"video": 7}, "not a path"),
        ({"priority": 1000}, "whole number"),
        ({"priority": True}, "whole number"),
        ({"task_type": "two words"}, "one word"),
        ({"id": "x" * 500}, "one word"),
        ({"colour": "red"}, "no field 'colour'"),
    ]
    async with daemon(alone) as api:
        for fields, sentence in bad:
            status, plain = await api.submit(alone, **({"job": fields.pop("id")} if "id" in fields else {}), **fields)
            assert (status, sentence in plain["error"]) == (400, True), (fields, plain)
        for body in (b"{", b"[]", b"\xff", b'"text"'):
            status, plain = await api.ask("POST", "/api/jobs", body)
            assert (status, plain["code"]) == (400, "bad_request")
        status, plain = await api.ask("POST", "/api/jobs", b"x" * 100_000)
        assert (status, plain["code"]) == (413, "too_large")
        assert (await api.ask("GET", "/api/jobs"))[1]["jobs"] == []
        assert (await api.ask("GET", "/api/jobs/none"))[1]["code"] == "unknown_job"
        assert (await api.ask("POST", "/api/jobs/none/cancel"))[0] == 404
        assert (await api.ask("GET", "/api/nowhere"))[0] == 404
        assert (await api.ask("DELETE", "/api/jobs"))[0] == 405
        for query in ("state=odd", "limit=0", "limit=x", "limit=5000"):
            assert (await api.ask("GET", f"/api/jobs?{query}"))[0] == 400


async def test_the_same_id_gets_the_same_answer_and_other_fields_conflict(alone: User) -> None:
    async with daemon(alone) as api:
        first = await api.submit(alone)
        again = await api.submit(alone)
        assert (first[0], again[0]) == (201, 200)
        assert first[1]["accepted_at"] == again[1]["accepted_at"]
        alone.video.rename(alone.folder / "away.mp4")
        assert (await api.submit(alone))[0] == 200
        (alone.folder / "away.mp4").rename(alone.video)
        status, plain = await api.submit(alone, output=str(alone.folder / "other.mp4"))
        assert (status, plain["code"]) == (409, "conflict")
        status, plain = await api.submit(alone, "job-2", if_exists="fail")
        assert (status, plain["code"]) == (409, "output_taken")
        assert "job-1" in plain["error"]
        if sys.platform != "win32":
            (alone.folder / "link").symlink_to(alone.folder)
            linked = str(alone.folder / "link" / "out.mp4")
            status, plain = await api.submit(alone, "job-2", output=linked, if_exists="fail")
            assert (status, plain["code"]) == (409, "output_taken")
        status, plain = await api.ask("POST", "/api/jobs/job-1/retry")
        assert (status, plain["code"]) == (409, "not_failed")
        named = await api.submit(alone, None, output=str(alone.folder / "three.mp4"))  # type: ignore[arg-type]
        assert named[1]["id"].startswith("ws-")
        assert [job["id"] for job in (await api.ask("GET", "/api/jobs?state=open&limit=1"))[1]["jobs"]] == [
            named[1]["id"]
        ]


async def test_a_client_that_does_not_say_what_to_do_about_a_file_that_exists_gets_the_next_number(alone: User) -> None:
    wanted = alone.folder / "out.mp4"
    wanted.write_bytes(b"of an earlier job")
    async with daemon(alone) as api:
        status, plain = await api.submit(alone)
        assert (status, plain["output"]) == (201, str(alone.folder / "out-2.mp4"))
        assert (await api.submit(alone))[0] == 200
        status, plain = await api.submit(alone, "job-2", if_exists="fail")
        assert (status, plain["code"], "out.mp4 exists" in plain["error"]) == (400, "file_unusable", True)
    assert wanted.read_bytes() == b"of an earlier job"


async def test_events_are_numbered_and_resume_after_the_last_read_event(alone: User) -> None:
    async with daemon(alone, "--line-every", "0.05") as api:
        await api.submit(alone)
        await api.until("waking")
        everything = api.events("/api/events")
        number, first = await anext(everything)
        seen = [(number, first)]
        async for item in everything:
            seen.append(item)
            if len(seen) == 3:
                break
        await everything.aclose()
        again = api.events("/api/events", seen[0][0])
        assert [await anext(again), await anext(again)] == seen[1:]
        await again.aclose()
        missed = api.events("/api/events", "another-7")
        assert (await anext(missed))[1] == {"event": "missed"}
        await missed.aclose()
        of_job = api.events()
        assert (await anext(of_job))[1]["event"] == "accepted"
        await of_job.aclose()


async def test_the_end_of_a_job_from_an_earlier_run_is_sent(alone: User) -> None:
    alone.environment["WAKESTREAM_DAEMON"] = str(alone.folder.parent / "daemon")
    async with open_journal(state_of(alone) / "outbox.sqlite3", f.OutboxFact, program="daemon") as journal:
        await journal.append([
            f.JobAccepted("job-1", str(alone.video), str(alone.audio), str(alone.out), 5000, 1, 2500, 1, "x", 0, 1.0),
            f.JobEnded("job-1", "failed", 2.0, "no luck", "task_failed"),
        ])  # fmt: skip
    async with daemon(alone) as api:
        events = [event async for _, event in api.events()]
        assert events == [{"job": "job-1", "at": 2.0, "event": "failed", "why": "no luck", "code": "task_failed"}]
        status, again = await api.ask("POST", "/api/jobs/job-1/retry")
        assert (status, again["retry_of"]) == (201, "job-1")


@asynccontextmanager
async def in_this_process(user: User) -> AsyncIterator[tuple[RunningDaemon, Outbox]]:
    """A daemon in the test's own loop, and its insides."""
    found = settings.load({}, environment=user.environment | {"HEYGEM_API_SECRET": "secret"}, folder=user.folder)
    state = user.folder.parent / "daemon"
    async with running_daemon(DaemonConfig(state), found) as running, aiohttp.ClientSession() as session:
        address = read(state)
        assert address is not None
        await until(lambda: running.outbox.feed.followers() == 1)  # its own, which looks after files
        yield RunningDaemon(None, address, session), running.outbox  # type: ignore[arg-type]


async def test_a_job_that_is_submitted_again_is_confirmed_only_when_it_is_on_the_disk(
    alone: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, written = StoredJournal.append, asyncio.Event()

    async def late(journal: StoredJournal[f.OutboxFact], facts: Sequence[f.OutboxFact]) -> None:
        await written.wait()
        await append(journal, facts)

    async with asyncio.timeout(100), in_this_process(alone) as (api, outbox):
        monkeypatch.setattr(StoredJournal, "append", late)
        first = asyncio.create_task(api.submit(alone))
        await until(lambda: "job-1" in outbox.state.jobs)
        again = asyncio.create_task(api.submit(alone))
        await until(lambda: again.done() or len(outbox._requests) == 2)
        assert not again.done()
        written.set()
        assert [(await first)[0], (await again)[0]] == [201, 200]


async def test_a_stalled_reader_is_disconnected_and_the_others_get_all_events(alone: User) -> None:
    async with in_this_process(alone) as (api, outbox):
        feed, port = outbox.feed, int(api.address.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        head = ("GET /api/events HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {api.address.token}")
        writer.write("\r\n".join([*head, "", ""]).encode())
        assert await reader.read(1) == b"H"  # it is heard out, and reads no further
        others = api.events("/api/events", f"{feed.boot}-0")
        feed.publish("a", {"event": "note", "text": "x"})
        await anext(others)
        both, heard = feed.followers(), 0
        while feed.followers() == both:
            feed.publish("a", {"event": "note", "text": "x" * 10_000})
            assert (await anext(others))[1]["event"] == "note"
            heard += 1
            assert heard < 20_000
        feed.publish("a", {"event": "note", "text": "the others hear on"})
        assert (await anext(others))[1]["text"] == "the others hear on"
        await others.aclose()
        assert not reader.at_eof()
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_watch_calls_jobs_by_the_names_of_their_files_and_two_of_one_name_by_their_ids_too(alone: User) -> None:
    async with in_this_process(alone) as (api, outbox), AsyncExitStack() as stack:
        before = outbox.feed.followers()
        watching = await stack.enter_async_context(alone.runs("watch"))
        as_json = await stack.enter_async_context(alone.runs("watch", "--json"))
        await until(lambda: outbox.feed.followers() == before + 2)
        await api.submit(alone)
        assert watching.process.stdout is not None
        line = (await watching.process.stdout.readline()).decode()
        assert line == "clip.mp4 + speech.wav  accepted\n"
        await api.submit(alone, "job-2", output=str(alone.folder / "two.mp4"))
        while line != "clip.mp4 + speech.wav (job-2)  accepted\n":
            line = (await watching.process.stdout.readline()).decode()
            assert line.startswith("clip.mp4 + speech.wav ")
        await as_json.event("accepted", job="job-2")
        if sys.platform == "win32":  # where there is no SIGINT for one process
            return
        for each in (watching, as_json):
            each.interrupt()
            assert (await each.ended()).code == 130


async def test_the_number_of_followers_is_limited(alone: User) -> None:
    async with in_this_process(alone) as (api, outbox):
        with ExitStack() as followers:
            for _ in range(100 - outbox.feed.followers()):
                followers.enter_context(outbox.feed.follow(None, lambda: None))
            status, plain = await api.ask("GET", "/api/events")
            assert (status, plain["code"]) == (503, "too_many_followers")


async def test_a_second_daemon_on_the_same_folder_exits_and_the_first_runs_on(alone: User) -> None:
    async with daemon(alone) as api:
        ran = await alone.run("daemon")
        assert ran.code == 2
        assert "another wakestream daemon uses it" in ran.err
        assert (await api.ask("GET", "/api/health"))[0] == 200


def test_a_broken_journal_and_an_open_address_are_refused(alone: User, here: Here) -> None:
    alone.environment["WAKESTREAM_DAEMON"] = str(alone.folder.parent / "daemon")
    state_of(alone).mkdir()
    (state_of(alone) / "outbox.sqlite3").write_bytes(b"nonsense" * 1000)
    ran = here(alone, "daemon")
    assert (ran.code, "it is damaged" in ran.err) == (2, True), ran
    ran = here(alone, "daemon", "--listen", "0.0.0.0:0")
    assert (ran.code, "can be reached from other machines" in ran.err) == (2, True), ran
