"""Files that another program has open: our programs wait a little, skip them, or report the reason."""

import asyncio
import errno
import json
import logging
import time
import webbrowser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.engines.pair import idle_engine
from wakestream.adapters.client.download import Partial
from wakestream.adapters.client.heygem_engine import SharedFolder
from wakestream.adapters.daemon import discovery as daemon_address
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console import sessions as opening
from wakestream.adapters.daemon.console import uploads as console_uploads
from wakestream.adapters.daemon.discovery import keep_port
from wakestream.adapters.disk import atomic
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.telemetry import logs, recorder
from wakestream.adapters.telemetry.logs import LogFile
from wakestream.adapters.telemetry.recorder import Recorder
from wakestream.adapters.telemetry.recordings import write
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.resumable_uploads import Uploads
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.adapters.worker.upload_records import Announced
from wakestream.operators.model.errors import FileUnusable, TaskFailed
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import TaskReport
from wakestream.streams.recording.recording import Header, Log

HEADER = Header("daemon", 2e9, 1, {})


def _tell(folder: Path) -> None:
    with daemon_address.announced(folder, daemon_address.Address("http://127.0.0.1:1", "token", 1)):
        assert json.loads((folder / daemon_address.FILE).read_bytes())["pid"] == 1


def _issue(folder: Path) -> None:
    LicenseBook(folder).issue("client", "", 0.0)


async def _render(folder: Path) -> None:
    store = FileStore(folder)
    try:
        await _store_result(store)
    finally:
        store.close()


async def _store_result(store: FileStore) -> None:
    async with store.work_folder() as work:
        (work / "video.mp4").write_bytes(b"film")
        await store.take("b" * 32, {"video": work / "video.mp4"}, single=True)


async def _download(folder: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        part = Partial("task", folder / "out.mp4", executor)
        part.overwrite = True
        part.begin(etag=None, verified=False, resumable=False)
        await part.write(b"film")
        await part.finish()


async def _announce(folder: Path) -> None:
    store = FileStore(folder)
    try:
        await Uploads(store, TaskQueue(store, FakeJournal(), idle_engine())).create(Announced(10, ".mp4", "ab" * 32))
    finally:
        store.close()


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "the daemon's address": (daemon_address.FILE, _tell),
    "the console's port": ("console.json", lambda folder: keep_port(folder, 1)),
    "licenses": ("licenses.json", _issue),
    "an engine's result": (f"results/{'b' * 32}.mp4", _render),
    "a download": ("out.mp4", _download),
    "a log": ("a.jsonl", lambda folder: write(Log(HEADER, ()), folder / "a.jsonl")),
    "a task's end": ("c.ended.json", lambda folder: SharedFolder(folder).keep("c", TaskReport("failed", 0.0))),
}
EMPTY = {"licenses.json": b'{"v":1,"licenses":[]}'}


@pytest.mark.parametrize("name", WRITERS)
async def test_a_briefly_open_file_is_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, put = WRITERS[name]
    before = EMPTY.get(file, b"{}")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(before)
    reader = (tmp_path / file).open("rb")
    monkeypatch.setattr(time, "sleep", lambda _: reader.close())
    written = put(tmp_path)
    if asyncio.iscoroutine(written):
        await written
    assert reader.closed
    assert not (tmp_path / file).exists() or (tmp_path / file).read_bytes() != before


def test_patience_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    (tmp_path / "new").touch()
    with (tmp_path / "old").open("wb"), pytest.raises(PermissionError):
        atomic.replace_file(tmp_path / "new", tmp_path / "old")
    assert sum(waited) == pytest.approx(1.0)


async def test_a_result_that_a_player_holds_open_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    (tmp_path / "out.mp4").write_bytes(b"former")
    with (tmp_path / "out.mp4").open("rb"), pytest.raises(FileUnusable, match="another program has it open"):
        await _download(tmp_path)


async def test_a_worker_starts_beside_the_engine_of_a_killed_one(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    left = tmp_path / "results" / f"{'b' * 32}.part.mp4"
    left.write_bytes(b"half")
    (tmp_path / "partial" / "old.part").write_bytes(b"half")
    again = FileStore(tmp_path)
    with left.open("rb"):
        again.sweep()
        assert left.exists()
        await _store_result(again)
    assert again.result("b" * 32).read_bytes() == b"film"
    assert list((tmp_path / "partial").iterdir()) == []
    later = FileStore(tmp_path)
    later.sweep()
    assert not left.exists()
    for one in (store, again, later):
        one.close()


async def test_an_engine_whose_child_still_writes_fails_for_its_own_reason(tmp_path: Path) -> None:
    store = FileStore(tmp_path)

    async def render() -> None:
        async with store.work_folder() as work:
            child.append((work / "video.mp4").open("wb"))
            raise TaskFailed("its own reason")

    child: list[BinaryIO] = []
    with pytest.raises(TaskFailed, match="own reason"):
        await render()
    child[0].close()
    store.close()


async def test_a_stored_file_that_is_being_read_is_not_removed(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    async with store.receive({"blake3"}) as incoming:
        await incoming.add(b"film")
        ref = await incoming.keep(".mp4", algorithm="blake3")
    with store.path(ref).open("rb"):
        assert not await store.remove(store.stored()[0])
    assert await store.remove(store.stored()[0])
    store.close()


async def test_a_file_can_be_uploaded_again_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    store = FileStore(tmp_path)

    async def bring() -> FileRef:
        async with store.receive({"blake3"}) as incoming:
            await incoming.add(b"film")
            return await incoming.keep(".mp4", algorithm="blake3")

    with store.path(await bring()).open("rb"):
        assert store.has(await bring())
    assert list((tmp_path / "partial").iterdir()) == []
    store.close()


async def test_an_open_old_recording_does_not_end_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "DAY", -1.0)
    for number in range(3):
        (tmp_path / f"daemon-20200101T000000Z-1-{number:03}.jsonl").touch()
    with (tmp_path / "daemon-20200101T000000Z-1-000.jsonl").open("rb"):
        tap = Recorder(tmp_path, HEADER, max_files=2)
        tap.row("in", "first", {})
        tap.close()
    assert any(b"first" in path.read_bytes() for path in tmp_path.iterdir())
    assert not (tmp_path / "daemon-20200101T000000Z-1-001.jsonl").exists()


def test_a_log_that_is_read_keeps_its_older_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PIECE", 200)
    path = tmp_path / "daemon.log"
    log = LogFile(path)
    for number in range(20):
        log.write(f"line {number:02} {'x' * 40}\n")
    before = [piece.read_bytes() for piece in logs.pieces(path)[:-1]]
    assert len(before) == 4
    with path.open("rb"):
        for number in range(20, 60):
            log.write(f"line {number} {'x' * 40}\n")
    assert [piece.read_bytes() for piece in logs.pieces(path)[:-1]] == before
    log.write("the end\n")
    log.write("more\n")
    log.close()
    assert [piece.read_bytes() for piece in logs.pieces(path)][:3] == before[1:]
    assert b"line 59" in logs.pieces(path)[-2].read_bytes()
    logging.shutdown([])


def test_a_result_in_a_player_is_not_reported_as_removed(tmp_path: Path) -> None:
    result = tmp_path / "job.mp4"
    result.write_bytes(b"film")
    with result.open("rb"), pytest.raises(ApiError, match="in use") as refused:
        console_uploads.remove_result(result)
    assert (refused.value.status, refused.value.code) == (409, "in_use")
    console_uploads.remove_result(result)
    console_uploads.remove_result(result)
    assert not result.exists()


def test_a_link_that_a_browser_reads_is_only_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    (tmp_path / opening.PAGE).touch()
    with (tmp_path / opening.PAGE).open("rb"):
        assert not opening.in_browser(tmp_path, "http://127.0.0.1:1/#link=x")
    assert opened == []
    assert opening.in_browser(tmp_path, "http://127.0.0.1:1/#link=x")
    assert len(opened) == 1


def test_a_folder_instead_of_a_settings_file_is_reported(tmp_path: Path) -> None:
    from wakestream.adapters.config.settings import SettingsError, load

    (tmp_path / ".env").mkdir()
    with pytest.raises(SettingsError, match="is a folder"):
        load({}, environment={}, folder=tmp_path)


def test_a_full_disk_is_recognized_by_its_windows_error() -> None:
    from wakestream.adapters.client.download import disk_errors
    from wakestream.operators.model.errors import NoSpace

    error = OSError(errno.EINVAL, "There is not enough space on the disk")
    error.winerror = 112  # type: ignore[attr-defined]
    with pytest.raises(NoSpace), disk_errors(Path("out.mp4")):
        raise error
