"""The engine's own protocol, with its traps: against an engine on loopback and a folder shared with it."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.engines.heygem_server import FakeEngine
from tests.support.programs import plain_server
from tests.support.programs.examples_scene import with_engine
from wakestream.adapters.client.heygem_engine import EasyEngine, EngineBusy
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.testing.harness import sample_job
from wakestream.operators import (
    Done,
    Downloading,
    FileChanged,
    FileRef,
    FileUnusable,
    Fingerprint,
    Health,
    TaskLost,
    TaskReport,
    WorkerRefused,
    WorkerUnreachable,
    is_retryable,
)

VIDEO, AUDIO = FileRef("a" * 32, ".mp4"), FileRef("b" * 32, ".wav")
CODE = "a" * 16 + "b" * 16


@asynccontextmanager
async def saying(answer: str, status: int = 200) -> AsyncIterator[str]:
    """Something that gives one answer to everything: its address."""

    async def say(_: web.Request) -> web.Response:
        return web.Response(text=answer, status=status, content_type="text/html")

    async with plain_server.answering(say) as url:
        yield url


def brought(folder: Path) -> None:
    """Both files lie in the shared folder."""
    for ref in (VIDEO, AUDIO):
        (folder / f"{ref.hash}{ref.ext}").write_bytes(b"x")


async def fingerprint(path: Path) -> Fingerprint:
    files = DiskFiles()
    try:
        return await files.fingerprint(path, {"md5"})
    finally:
        await files.close()


# --- tasks -----------------------------------------------------------------------------------------------------------


async def test_the_end_of_a_task_is_stored_once(tmp_path: Path) -> None:
    async with FakeEngine(tmp_path, b"x", steps=0).runs() as fake:
        engine = EasyEngine(fake.url, tmp_path)
        fake.tasks["code"] = 0
        assert (await engine.report("code")).status == "done"
        assert (await engine.report("code")).status == "done", "although the engine says 10004 by now"
        assert (await EasyEngine(fake.url, tmp_path).report("code")).status == "done", "also after our restart"


async def test_a_task_that_the_engine_forgot_is_lost_unless_its_result_plays(tmp_path: Path) -> None:
    acted = await with_engine(tmp_path)
    shared = acted.props["engine"].folder
    async with FakeEngine(shared, b"").runs() as fake:
        engine = EasyEngine(fake.url, shared)
        (shared / "torn-r.mp4").write_bytes(acted.props["clip"][:100])
        with pytest.raises(TaskLost, match="does not know the task"):
            await engine.report("torn")
        (shared / "whole-r.mp4").write_bytes(acted.props["clip"])
        assert (await engine.report("whole")).status == "done"


async def test_the_same_pair_again_finds_its_task_or_the_result_that_stands(tmp_path: Path) -> None:
    acted = await with_engine(tmp_path)
    shared = acted.props["engine"].folder
    brought(shared)
    async with FakeEngine(shared, b"").runs() as fake:
        engine = EasyEngine(fake.url, shared)
        receipt = await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})
        assert (receipt.task_id, receipt.cached) == (CODE, False)
        assert (await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})).task_id == CODE
        assert len(fake.asked) == 1, "a task that runs is not submitted again"
        (shared / f"{CODE}-r.mp4").write_bytes(acted.props["clip"])
        fake.restart()
        assert (await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})).cached


async def test_a_task_that_failed_is_submitted_again(tmp_path: Path) -> None:
    brought(tmp_path)
    async with FakeEngine(tmp_path, b"x", steps=0, fails=True).runs() as fake:
        engine = EasyEngine(fake.url, tmp_path)
        await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})
        assert await engine.report(CODE) == TaskReport("error", 20.0, "no face found")
        fake.fails = False
        assert not (await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})).cached
        assert (await engine.report(CODE)).status == "done"


async def test_a_removed_result_is_rendered_again(tmp_path: Path) -> None:
    brought(tmp_path)
    async with FakeEngine(tmp_path, b"x", steps=0).runs() as fake:
        engine = EasyEngine(fake.url, tmp_path)
        await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})
        assert (await engine.report(CODE)).status == "done"
        (tmp_path / f"{CODE}-r.mp4").unlink()
        with pytest.raises(TaskLost, match="no longer in the engine's folder"):
            _ = [item async for item in engine.download(CODE, tmp_path / "out.mp4")]
        assert not (await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})).cached


async def test_a_busy_engine_is_retried(tmp_path: Path) -> None:
    brought(tmp_path)
    async with FakeEngine(tmp_path, b"", busy_for=1).runs() as fake:
        engine = EasyEngine(fake.url, tmp_path)
        with pytest.raises(EngineBusy, match="another task") as busy:
            await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})
        assert is_retryable(busy.value)
        assert not (await engine.submit(sample_job(), {"video": VIDEO, "audio": AUDIO})).cached


async def test_the_engines_refusal_is_reported_in_its_words(tmp_path: Path) -> None:
    async with FakeEngine(tmp_path, b"").runs() as fake:
        with pytest.raises(WorkerRefused, match="the engine refused: 10002 参数异常"):
            await EasyEngine(fake.url, tmp_path).submit(sample_job(), {"video": VIDEO, "audio": AUDIO})


@pytest.mark.parametrize(
    ("data", "report"),
    [
        ('{"status":1,"progress":5,"msg":""}', TaskReport("processing", 5.0)),
        ('{"status":1,"progress":"half","msg":7}', TaskReport("processing", 0.0, "7")),
        ('{"status":1,"progress":250}', TaskReport("processing", 100.0)),
        ('{"status":3,"progress":20,"msg":"no\\nface"}', TaskReport("error", 20.0, "no face")),
        ("{}", TaskReport("processing")),
        ("[]", TaskReport("processing")),
    ],
)
async def test_reports_are_read_whatever_their_fields_hold(tmp_path: Path, data: str, report: TaskReport) -> None:
    async with saying(f'{{"code":10000,"success":true,"msg":1,"data":{data}}}') as url:
        assert await EasyEngine(url, tmp_path).report("code") == report


# --- unusable answers -------------------------------------------------------------------------------------------


async def test_an_engine_that_answers_is_ready(tmp_path: Path) -> None:
    async with FakeEngine(tmp_path, b"").runs() as fake:
        assert await EasyEngine(fake.url + "/", tmp_path).health() == Health(initialized=True)


@pytest.mark.parametrize("answer", ["<html>", "[]", "{}", '{"code":"10000"}', '{"code":true}'])
async def test_other_servers_are_not_mistaken_for_an_engine(tmp_path: Path, answer: str) -> None:
    async with saying(answer) as url:
        with pytest.raises(WorkerRefused, match="is not an engine"):
            await EasyEngine(url, tmp_path).health()


async def test_an_engine_that_is_not_up_may_come(tmp_path: Path) -> None:
    async with saying("bad gateway", 502) as url:
        with pytest.raises(WorkerUnreachable, match="HTTP 502"):
            await EasyEngine(url, tmp_path).health()
    with pytest.raises(WorkerUnreachable, match="nothing listens there"):
        await EasyEngine(url, tmp_path).health()


# --- files -----------------------------------------------------------------------------------------------------------


async def test_a_file_gets_its_name_in_the_folder_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"v" * 1000)
    engine, file = EasyEngine("http://engine", tmp_path / "shared"), await fingerprint(tmp_path / "clip.mp4")
    ref = FileRef(file.digests["md5"], ".mp4")
    assert await engine.check([ref]) == {ref.hash: False}
    assert [count async for count in engine.upload(file, ref)] == [1000]
    assert await engine.check([ref]) == {ref.hash: True}
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [f"{ref.hash}.mp4"]


async def test_an_aborted_upload_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"v" * 1000)
    upload = EasyEngine("http://engine", tmp_path / "shared").upload(await fingerprint(tmp_path / "clip.mp4"), VIDEO)
    assert await anext(upload) == 1000
    await upload.aclose()
    assert list((tmp_path / "shared").iterdir()) == []


def longer(path: Path) -> None:
    path.write_bytes(b"w" * 2000)


@pytest.mark.parametrize("change", [longer, Path.unlink, lambda path: os.utime(path, (1, 1))])
async def test_a_changed_file_is_not_uploaded(tmp_path: Path, change: Callable[[Path], Any]) -> None:
    (tmp_path / "shared").mkdir()
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"v" * 1000)
    engine, file = EasyEngine("http://engine", tmp_path / "shared"), await fingerprint(clip)
    begun = engine.upload(file, VIDEO)
    assert await anext(begun) == 1000
    change(clip)
    for upload in (begun, engine.upload(file, VIDEO)):
        with pytest.raises(FileChanged):
            _ = [count async for count in upload]
    assert list((tmp_path / "shared").iterdir()) == []


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"v" * 1000)
    upload = EasyEngine("http://engine", tmp_path / "no").upload(await fingerprint(tmp_path / "clip.mp4"), VIDEO)
    with pytest.raises(FileUnusable, match="cannot be written"):
        _ = [count async for count in upload]


async def test_a_result_is_brought_home_whole(tmp_path: Path) -> None:
    (tmp_path / "code-r.mp4").write_bytes(b"r" * 1000)
    engine, output = EasyEngine("http://engine", tmp_path), tmp_path / "out.mp4"
    items = [item async for item in engine.download("code", output)]
    assert items == [Downloading(1000, 1000), Done(output, 1000)]
    assert output.read_bytes() == b"r" * 1000


async def test_a_file_under_its_final_name_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code-r.mp4").write_bytes(b"r" * 1000)
    done: list[str] = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("synced"), sync(file)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("named"), rename(self, target))[1])
    _ = [item async for item in EasyEngine("http://engine", tmp_path).download("code", tmp_path / "out.mp4")]
    assert done == ["synced", "named", "synced"]  # at last the folder with the name


async def test_one_content_under_two_endings_is_there_when_both_are(tmp_path: Path) -> None:
    engine, other = EasyEngine("http://engine", tmp_path), FileRef(VIDEO.hash, ".mov")
    (tmp_path / f"{other.hash}.mov").write_bytes(b"v")
    assert await engine.check([VIDEO, other]) == await engine.check([other, VIDEO]) == {VIDEO.hash: False}


async def test_the_one_engine_has_no_cancel(tmp_path: Path) -> None:
    engine = EasyEngine("http://engine:8383/", tmp_path)
    assert engine.at("http://elsewhere") is engine
    assert engine.resolve(None) == "http://engine:8383"
    await engine.cancel("code", "job-1")
