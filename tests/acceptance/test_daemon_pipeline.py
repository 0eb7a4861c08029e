"""`wakestream daemon --pipeline`: a pipeline of the user's own, as durable as the standard one."""

import sys

import pytest

from tests.acceptance.test_daemon import Counting
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon, state_of
from tests.support.programs.our_peers import Joining, Place, held, until

PUBLISHED = """
import asyncio
from pathlib import Path
from wakestream import Done, Events, Stages, note, of, pipeline, then

@pipeline
def published(stages: Stages) -> Events:
    def publish(done: Done) -> Events:
        return stages.effect("publish", {"size": done.size}, publishing).map(lambda _: done)

    def told(done: Done) -> Events:
        return note("to be published").pipe(then(lambda _: of(done)))

    return stages.standard().pipe(then(told, publish))

async def publishing() -> None:
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    with Path("published").open("a") as file:
        file.write("once\\n")

def twice(stages: Stages) -> Events:
    return stages.standard()

def raises() -> None:
    raise ValueError("no such city")
"""


@pytest.fixture
def mine(user: User) -> User:
    """A user whose folder holds a pipeline."""
    (user.folder / "mine.py").write_text(PUBLISHED, encoding="utf-8")
    return user


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
async def test_a_custom_pipeline_resumes_after_a_kill(mine: User, place: Place) -> None:
    own = ("--pipeline", "mine:published", "--record", "rec")
    async with place.hub() as hub, place.worker(engine := Counting()):
        mine.environment |= place.client_settings()
        async with daemon(mine, *own) as api:
            assert (await api.submit(mine))[0] == 201
            await api.until("note", text="to be published")
            assert not (mine.folder / "published").exists()
            await api.kill()
        (mine.folder / "go").touch()
        async with daemon(mine, *own) as api:
            assert (await api.outcome())["event"] == "done"
            assert (await api.job())["state"] == "done"
        assert (mine.folder / "published").read_text() == "once\n"
        assert mine.out.read_bytes() == b"video" * 1000 + b"audio" * 500
        assert engine.runs == 1
        await until(lambda: held(hub) == [])
        replayed = await mine.run("replay", "rec", "--pipeline", "mine:published")
        assert (replayed.code, replayed.out.count("same as recorded")) == (0, 2), replayed
        standard = await mine.run("replay", "rec")
        assert "add --pipeline mine:published" in standard.out, standard


async def test_every_job_runs_the_whole_pipeline_even_if_its_result_exists(mine: User, place: Place) -> None:
    (mine.folder / "go").touch()
    async with place.hub(), place.worker(Joining()):
        mine.environment |= place.client_settings()
        async with daemon(mine, "--pipeline", "mine:published") as api:
            for job in ("job-1", "job-2"):
                assert (await api.submit(mine, job, output=str(mine.folder / f"{job}.mp4")))[0] == 201
                assert (await api.outcome(job))["event"] == "done"
    assert (mine.folder / "published").read_text() == "once\nonce\n"


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("nowhere:published", "--pipeline nowhere:published: No module named 'nowhere'"),
        ("mine:nothing", "--pipeline mine:nothing: module 'mine' has no attribute 'nothing'"),
        ("mine", "--pipeline 'mine': write MODULE:NAME"),
        (
            "mine:Path",
            "--pipeline mine:Path: it is a class, not a pipeline; a pipeline takes (job, world, policy, cancel)",
        ),
        ("mine:publishing", "it is an async function, not a pipeline"),
        ("mine:PUBLISHED", "module 'mine' has no attribute 'PUBLISHED'"),
        ("mine:twice", "it takes (stages); a pipeline takes (job, world, policy, cancel). Decorate a function"),
        ("mine:raises()", "--pipeline mine:raises(): ValueError: no such city"),
    ],
)
async def test_an_invalid_pipeline_is_refused_at_start(mine: User, named: str, why: str) -> None:
    mine.environment |= {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    mine.environment.setdefault("WAKESTREAM_DAEMON", str(mine.folder.parent / "daemon"))
    ran = await mine.run("daemon", "--pipeline", named)
    assert (ran.code, ran.out) == (2, "")
    assert why in ran.err
    assert "Traceback" not in ran.err
    assert not state_of(mine).exists()
