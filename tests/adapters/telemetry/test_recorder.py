"""The recorder writes what happened, in order, without secrets, and never more than it may."""

import asyncio
import errno
import os
import stat
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from wakestream.adapters.telemetry.recorder import Recorder, recording
from wakestream.adapters.telemetry.recordings import find
from wakestream.operators.model.errors import FileUnusable
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Header, UnusableLog, read_log, untapped
from wakestream.streams.recording.secrets import REDACTED

HEADER = Header("daemon", 1_790_000_000.0, 7, {"policy": {"online": 1800.0}})

pytestmark = pytest.mark.virtual


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


async def test_rows_are_read_back_as_they_were_written_in_the_order_of_their_times(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, HEADER)
    for number in range(5):
        recorder.row("effect", "check", {"n": number}, "job-1")
    recorder.close()
    (path,) = logs(tmp_path)
    log = read_log(path.read_bytes().splitlines(keepends=True))
    assert log.header == HEADER
    assert [row.data["n"] for row in log.rows] == [0, 1, 2, 3, 4]
    assert all(a.t < b.t for a, b in zip(log.rows, log.rows[1:], strict=False))


@pytest.mark.parametrize(
    "message",
    [
        m.Register(key="ws_client_0123456789abcdef0123"),
        m.Register(token="ws_worker_0123456789abcdef0123", role="worker"),
        m.Registered(key="0123456789abcdef0123"),
        m.Submit(request_id="a", key="0123456789abcdef0123", payload={"license_key": "0123456789abcdef0123"}),
        m.Error(msg="bad header: Authorization: Bearer 0123456789abcdef0123"),
        m.Unknown(type="x", frame={"type": "x", "nested": [{"Token": "0123456789abcdef0123"}]}),
    ],
)
async def test_secrets_never_enter_a_log(tmp_path: Path, message: m.Message) -> None:
    recorder = Recorder(tmp_path, HEADER)
    recorder.frame("out", message)
    recorder.close()
    text = logs(tmp_path)[0].read_text()
    assert "0123456789abcdef" not in text
    assert REDACTED in text


async def test_pings_are_not_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, HEADER)
    recorder.frame("in", m.Ping())
    recorder.frame("out", m.Pong())
    recorder.close()
    assert len(logs(tmp_path)[0].read_bytes().splitlines()) == 1


async def test_files_rotate_and_the_oldest_are_removed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, HEADER, max_file=500, max_files=3)
    for number in range(50):
        recorder.row("in", "x", {"n": number, "pad": "." * 100})
    recorder.close()
    kept = logs(tmp_path)
    assert len(kept) == 3
    last = read_log(kept[-2].read_bytes().splitlines(keepends=True))
    assert last.header == HEADER
    assert last.rows[-1].data["n"] > 40


async def test_two_runs_that_begin_within_one_second_are_two_logs(tmp_path: Path) -> None:
    for epoch in (HEADER.epoch, HEADER.epoch + 0.25):  # a hub that leads again at once
        Recorder(tmp_path, replace(HEADER, epoch=epoch)).close()
    assert [len(one.parts) for one in find([tmp_path])] == [1, 1]


async def test_an_old_file_that_another_program_removes_at_the_same_moment_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, glob = tmp_path / f"{HEADER.program}-20200101T000000Z-1-001.jsonl", Path.glob
    with monkeypatch.context() as listed:
        listed.setattr(Path, "glob", lambda folder, pattern: [gone, *glob(folder, pattern)])
        Recorder(tmp_path, HEADER, max_files=1).close()
    assert [bool(log.read_bytes()) for log in logs(tmp_path)] == [True]


async def test_a_full_disk_ends_the_recording_and_not_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path, HEADER)

    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

        def close(self) -> None:
            """Closed."""

    file = recorder._file
    assert file is not None
    file.close()
    monkeypatch.setattr(recorder, "_file", Full())
    recorder.row("in", "x", {})
    recorder.row("in", "y", {})
    assert recorder._file is None


def test_an_unwritable_folder_is_reported_at_start(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")

    async def start() -> None:
        Recorder(file, HEADER)

    from wakestream.adapters.testing.virtual_loop import run_virtual

    with pytest.raises(FileUnusable, match="cannot record into"):
        run_virtual(start())


async def test_without_a_folder_nothing_is_recorded(tmp_path: Path) -> None:
    with recording(None, "daemon", 1, {}) as tap:
        assert tap is untapped
        tap.row("in", "x", {})
    with recording(tmp_path, "hub", 1, {}) as tap:
        tap.row("in", "x", {})
    assert [path.name.partition("-")[0] for path in logs(tmp_path)] == ["hub"]


FIRST = b'{"v":1,"program":"x","epoch":0,"seed":0}'


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([b'{"v":3,"program":"x"}'], "version 3"),
        ([b'{"v":1}'], "incomplete"),
        ([FIRST, b"{}"], "line 2 is no row"),
        ([FIRST, b"nonsense", b"{}"], "line 2 is not JSON"),
    ],
)
def test_a_file_that_is_not_a_log_is_refused_with_a_reason(lines: list[bytes], why: str) -> None:
    with pytest.raises(UnusableLog, match=why):
        read_log(lines)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
async def test_a_log_is_for_its_owner_alone_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Recorder(tmp_path / "logs", HEADER).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in logs(tmp_path / "logs")] == [0o600]


def test_a_client_records_for_how_long_no_timer_has_fired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def record() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", count(loop.time(), 0.01).__next__)  # a machine that freezes at each look
        recorder = Recorder(tmp_path, HEADER)

        def busy() -> None:
            until = loop.time() + 0.05
            while loop.time() < until:
                pass

        for callback in (busy, lambda: recorder.row("in", "ack", {}), busy):
            loop.call_soon(callback)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        recorder.close()

    asyncio.run(record())
    [row] = read_log(logs(tmp_path)[0].read_bytes().splitlines(keepends=True)).rows
    assert 0.05 <= row.lag <= row.t
