"""Logs as they lie on disks: plain, packed, in parts, torn, and not logs at all."""

import errno
import gzip
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from wakestream.adapters.telemetry import recordings as logs_on_disk
from wakestream.adapters.telemetry.recordings import LogFile, find, read, write
from wakestream.streams.recording.recording import Header, Log, Row, UnusableLog, header_line, row_line

HEADER = Header("daemon", 1000.0, 7, {"policy": {"reply": 30.0}})
ROWS = tuple(Row(seq, seq / 10, "in", "ack", {"type": "ack", "request_id": "a"}, "a") for seq in range(1, 10))


def lines(rows: Sequence[Row] = ROWS, header: Header = HEADER) -> bytes:
    return header_line(header) + b"".join(map(row_line, rows))


def saved(folder: Path, content: bytes, name: str = "x.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def only(path: Path) -> Log:
    (file,) = find([path])
    return read(file)


def changed(**values: Any) -> bytes:
    """A log whose fourth row, on line 5, has other fields."""
    parsed = [orjson.loads(line) for line in lines().splitlines()]
    parsed[4].update(values)
    return b"".join(orjson.dumps(each) + b"\n" for each in parsed)


def test_the_log_of_a_hub_with_twenty_thousand_jobs_is_readable(tmp_path: Path) -> None:
    items = [[f"job-{n}", {"payload": "x" * 330}] for n in range(20_000)]
    started = Row(1, 0.0, "conn", "started", {"now": 1.0, "state": [{"field": "jobs", "items": items}]})
    path = saved(tmp_path, lines((started,), Header("hub", 1000.0, 7)))
    assert path.stat().st_size > 7_000_000
    assert len(only(path).rows[0].data["state"][0]["items"]) == 20_000


@pytest.mark.parametrize(("name", "begins"), [("x.jsonl", b"{"), ("x.jsonl.gz", b"\x1f\x8b")])
def test_a_log_is_read_as_it_was_written(tmp_path: Path, name: str, begins: bytes) -> None:
    write(Log(HEADER, ROWS), tmp_path / name)
    assert only(tmp_path / name) == Log(HEADER, ROWS)
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_parts_of_a_run_are_joined_in_their_order_whichever_is_named(tmp_path: Path) -> None:
    for number, part in enumerate((ROWS[:4], ROWS[4:5], ROWS[5:]), 1):
        saved(tmp_path, lines(part), f"daemon-20260101T000000Z-77-{number:03}.jsonl")
    for number in (1, 2, 3):
        assert only(tmp_path / f"daemon-20260101T000000Z-77-{number:03}.jsonl") == Log(HEADER, ROWS)
    (file,) = find([tmp_path])
    assert len(file.parts) == 3
    assert file.name.endswith("-001.jsonl (+2)")


def test_the_thousandth_part_follows_the_nine_hundred_and_ninety_ninth(tmp_path: Path) -> None:
    names = [f"x-{number:03}.jsonl" for number in range(1, 1001)]
    for name in names:
        saved(tmp_path, lines(()), name)
    (file,) = find([tmp_path])
    assert [part.name for part in file.parts] == names


def test_a_part_may_be_packed(tmp_path: Path) -> None:
    saved(tmp_path, gzip.compress(lines(ROWS[:4])), "x-001.jsonl.gz")
    saved(tmp_path, lines(ROWS[4:]), "x-002.jsonl")
    assert only(tmp_path / "x-002.jsonl") == Log(HEADER, ROWS)


def test_a_folder_holds_one_log_for_each_run(tmp_path: Path) -> None:
    for name in ("hub-1-001.jsonl", "hub-1-002.jsonl", "hub-2-001.jsonl", "other.jsonl.gz", "note.txt"):
        saved(tmp_path, b"", name)
    assert [file.parts[0].name for file in find([tmp_path])] == ["hub-1-001.jsonl", "hub-2-001.jsonl", "other.jsonl.gz"]


def test_a_log_named_twice_is_read_once(tmp_path: Path) -> None:
    path = saved(tmp_path, lines())
    assert len(find([path, tmp_path, path])) == 1


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    log = only(saved(tmp_path, lines()[:-20]))
    assert log.torn
    assert log.rows == ROWS[:-1]


def test_the_last_part_of_a_run_may_be_torn_and_no_other(tmp_path: Path) -> None:
    saved(tmp_path, lines(ROWS[:4])[:-20], "x-001.jsonl")
    second = saved(tmp_path, lines(ROWS[4:]), "x-002.jsonl")
    with pytest.raises(UnusableLog, match=r"x-002.jsonl: line 2 has seq 5, but the part before ends with 3"):
        only(second)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "x.jsonl: the first line is no header"),
        (b"hello\n", "x.jsonl: the first line is no header"),
        (b"[]\n", "x.jsonl: the first line is no header"),
        (row_line(ROWS[0]), "x.jsonl: the first line is no header"),
        (b'{"v":3,"program":"daemon"}\n', "x.jsonl: format version 3; this program reads up to version 2"),
        (b'{"v":1,"program":"daemon"}\n', "x.jsonl: the header is incomplete"),
        (b'{"v":1,"program":5,"epoch":1,"seed":2}\n', "x.jsonl: the header (line 1) is wrong: 'program' is 5"),
        (header_line(HEADER) + b"{oops\n" + row_line(ROWS[0]), "x.jsonl: line 2 is not JSON"),
        (header_line(HEADER) + b"[1]\n", "x.jsonl: line 2 is no row"),
        (changed(seq="4"), "x.jsonl: line 5 is no row: 'seq' is '4'"),
        (changed(t=True), "x.jsonl: line 5 is no row: 't' is True"),
        (changed(dir="sideways"), "x.jsonl: line 5 is no row: 'dir' is 'sideways'"),
        (changed(data=None), "x.jsonl: line 5 is no row: 'data' is None"),
        (changed(more=1), "x.jsonl: line 5 is no row"),
        (changed(seq=2), "x.jsonl: line 5 is out of order: seq 2 comes after 3"),
        (changed(t=0.05), "x.jsonl: line 5 is out of order: t 0.05 comes after 0.3"),
        (changed(data={"key": "ws_client_abcdefghijklmnopqrstuvwxyz"}), "x.jsonl: line 5 (seq 4, ack) holds a secret"),
        (changed(data={"msg": "Bearer abc"}), "x.jsonl: line 5 (seq 4, ack) holds a secret"),
        (lines(header=Header("daemon", 1.0, 1, {"token": "abc"})), "x.jsonl: the header (line 1) holds a secret"),
    ],
)
def test_a_file_that_is_not_a_log_is_refused_with_file_and_line(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(UnusableLog, match=re.escape(why)) as refused:
        only(saved(tmp_path, content))
    assert "abc" not in str(refused.value).replace("x.jsonl", "")


@pytest.mark.parametrize("content", [lines(), gzip.compress(lines())[:-30], b"\x1f\x8b" + bytes(50)])
def test_damaged_packing_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnusableLog, match=r"x.jsonl.gz: the compressed data is damaged or incomplete"):
        only(saved(tmp_path, content, "x.jsonl.gz"))


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_on_disk, "MAX_LINE", 1000)
    with pytest.raises(UnusableLog, match=r"x.jsonl: line 2 is longer than 1000 bytes"):
        only(saved(tmp_path, header_line(HEADER) + b"x" * 5000))


def test_a_log_too_large_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_on_disk, "MAX_LOG", 2 << 20)
    bomb = header_line(HEADER) + row_line(ROWS[0]) * 50_000
    for name, content in (("x.jsonl", bomb), ("y.jsonl.gz", gzip.compress(bomb))):
        with pytest.raises(UnusableLog, match=f"{name}: the log is larger than 2 MiB"):
            only(saved(tmp_path, content, name))


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    saved(tmp_path, lines(ROWS[:4]), "x-001.jsonl")
    third = saved(tmp_path, lines(ROWS[4:]), "x-003.jsonl")
    with pytest.raises(UnusableLog, match="part 002 of this run is missing"):
        find([third])


def test_parts_of_different_runs_are_not_joined(tmp_path: Path) -> None:
    saved(tmp_path, lines(ROWS[:4]), "x-001.jsonl")
    second = saved(tmp_path, lines(ROWS[4:], Header("hub", 1.0, 1, {})), "x-002.jsonl")
    with pytest.raises(UnusableLog, match=r"x-002.jsonl: its header differs from that of x-001.jsonl"):
        only(second)


def test_missing_paths_and_folders_without_logs_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UnusableLog, match="nope: the file or folder does not exist"):
        find([tmp_path / "nope"])
    with pytest.raises(UnusableLog, match="this folder contains no log"):
        find([tmp_path])


def test_a_log_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UnusableLog, match="cannot be written"):
        write(Log(HEADER, ROWS), tmp_path / "missing" / "x.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UnusableLog, match="cannot be written"):
        write(Log(HEADER, ROWS), tmp_path / "folder.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.jsonl"]


def test_a_derived_log_is_written_beside_its_source(tmp_path: Path) -> None:
    assert LogFile((tmp_path / "x-001.jsonl.gz",)).beside("shrunk") == tmp_path / "x-001.shrunk.jsonl"


def test_an_unwritable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UnusableLog, match=f"cannot be written: {os.strerror(errno.EROFS)}"):
        write(Log(HEADER, ROWS), tmp_path / "x.jsonl")


def test_a_folder_of_many_runs_is_listed_twice_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in range(20):
        for part in (1, 2):
            saved(tmp_path, lines(), f"daemon-{run}-{part:03}.jsonl")
    listed, plain = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: listed.append(folder) or plain(folder))
    assert len(find([tmp_path])) == 20
    assert len(listed) <= 2
