"""Parts of the console by themselves: sessions, names, and what the timeline keeps."""

import asyncio
import io
import re
from pathlib import Path

import orjson
import pytest

from tests.support.late_thread import cancelled_before_its_thread
from wakestream.adapters.daemon.console import (
    gpu_status as gpu,
)
from wakestream.adapters.daemon.console import sessions as opening
from wakestream.adapters.daemon.console import (
    sessions as session,
)
from wakestream.adapters.daemon.console import (
    static_files as page,
)
from wakestream.adapters.daemon.console import timeline as timelines
from wakestream.adapters.daemon.console.results import disposition
from wakestream.adapters.daemon.console.sessions import Sessions
from wakestream.adapters.daemon.console.static_files import Page
from wakestream.adapters.daemon.console.timeline import Timeline, TimelineFile
from wakestream.adapters.daemon.console.upload_validation import file_name, shown_name
from wakestream.adapters.daemon.discovery import PORT_FILE, keep_port, last_port
from wakestream.adapters.hub.hub_page import hub_facts
from wakestream.adapters.net.static_files import files_of
from wakestream.adapters.net.status_page import words_for
from wakestream.streams.hub.state import Gpu, HubState
from wakestream.streams.outbox import outbox
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Header, read_log


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_sessions_links_and_tickets_end_with_their_time() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    code, late = sessions.new_link(), sessions.new_link()
    token = sessions.redeem(code)
    assert token is not None
    assert sessions.redeem(code) is None
    assert sessions.is_session(token)
    ticket = sessions.ticket("a")
    assert sessions.opens("a", ticket)
    assert not sessions.opens("b", ticket)
    assert not sessions.is_session(ticket)
    clock.now += session.TICKET_LASTS
    assert not sessions.opens("a", ticket)
    assert sessions.redeem(late) is None
    clock.now += session.SESSION_LASTS
    assert not sessions.is_session(token)


@pytest.mark.parametrize("token", ["", ".", "x", "9" * 40, "99999999999.", "99999999999.é", "-1.0", "²." + "0" * 64])
def test_an_invalid_session_is_ignored(token: str) -> None:
    assert not Sessions().is_session(token)


def test_the_number_of_open_links_is_limited() -> None:
    sessions = Sessions()
    codes = [sessions.new_link() for _ in range(session.LINKS_MOST + 1)]
    assert sessions.redeem(codes[0]) is None
    assert sessions.redeem(codes[-1]) is not None


def test_only_the_port_is_kept_between_runs(tmp_path: Path) -> None:
    keep_port(tmp_path, 4711)
    assert last_port(tmp_path) == 4711
    for broken in (b"", b"[]", b'{"port":true}', b'{"port":99999}'):
        (tmp_path / PORT_FILE).write_bytes(broken)
        assert last_port(tmp_path) == 0


def test_sessions_end_with_the_run() -> None:
    first, second = Sessions(), Sessions()
    assert first.is_session(first.new_session())
    assert not second.is_session(first.new_session())
    assert not second.opens("job", first.ticket("job"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\clip.mp4", "clip.mp4"),
        ("a\u202egpj.mp4", "agpj.mp4"),
        ("a\r\nSet-Cookie: x.mp4", "aSet-Cookie: x.mp4"),
        ("\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}.mp4", "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}.mp4"),
        ("/", "file"),
        ("\0", "file"),
        ("n" * 300 + ".mp4", "n" * 251 + ".mp4"),
    ],
)
def test_names_are_shown_without_markup_and_control_characters(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_a_download_keeps_its_name_in_every_language() -> None:
    assert disposition('ü"\\;.mp4') == "attachment; filename=\"___;.mp4\"; filename*=UTF-8''%C3%BC%22%5C%3B.mp4"


def test_a_jobs_id_makes_a_file_name_that_every_system_takes() -> None:
    assert file_name("ws-12ab") == "ws-12ab"
    for odd in ("a/b", "..", "con:", "x" * 81, "a*"):
        assert file_name(odd).isalnum()
        assert len(file_name(odd)) == 32


async def test_the_timeline_drops_whole_jobs_and_is_a_log_without_secrets() -> None:
    timeline = Timeline(kept=100)
    tap = timeline.begin(Header("daemon", 1000.0, 7, {"policy": {}}))
    tap.frame("out", m.Register(key="ws_client_0123456789abcdefgh", device_type="pc"))
    tap.frame("in", m.Pong())
    for number in range(30):
        tap.row("in", "job.accept", {"video": "a"}, f"job-{number}")
        tap.row("effect", "upload", {"item": 5}, f"job-{number}")
        tap.row("effect", "upload", {"error": {"code": "x"}}, f"job-{number}")
        tap.row("out", "done", {"event": "done"}, f"job-{number}")
    assert len(timeline.rows) <= 100
    log = read_log(io.BytesIO(b"".join(timeline.lines())))
    assert log.header == timeline.header
    assert "0123456789" not in b"".join(timeline.lines()).decode()
    counts = {row.job: 0 for row in log.rows}
    for row in log.rows:
        counts[row.job] += 1
    assert {count for job, count in counts.items() if job is not None} == {4}
    assert "job-29" in counts
    shown = timeline.since(0)
    assert [row["label"] for row in shown[-3:]] == ["job.accept", "upload", "done"]
    assert shown[-2]["fault"] is True
    assert timeline.since(timeline.last) == []
    assert orjson.dumps(shown)


async def test_overlapping_jobs_leave_the_timeline_together() -> None:
    timeline = Timeline(kept=40)
    tap = timeline.begin(Header("daemon", 1000.0, 7, {"policy": {}}))

    def rows(label: str, *jobs: str, count: int = 1) -> None:
        for job in jobs * count:
            tap.row("out", label, {"event": label}, job)

    rows("job.accept", "a", "b")
    rows("running", "a", "b", count=5)
    rows("done", "a", "b")
    rows("job.accept", "c", "d")
    rows("done", "c")
    rows("running", "d", count=25)
    assert {row.job for row in timeline.rows} == {"c", "d"}
    rows("running", "d", count=30)
    assert {row.job for row in timeline.rows} == {"d"}
    assert len(timeline.rows) <= 40


def test_every_file_of_the_page_is_shipped_and_named_by_another() -> None:
    texts = {name: body.decode() for name, body in files_of("wakestream.adapters.daemon.console").items()}
    for name in texts.keys() - {"index.html"}:
        assert any(f"/{name}" in text for other, text in texts.items() if other != name), name


def test_no_script_of_the_page_takes_text_for_markup_or_code() -> None:
    found = {name: body.decode() for name, body in files_of("wakestream.adapters.daemon.console").items()}
    acting = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "new Function")
    texts = {name: text for name, text in found.items() if name.endswith(".js")}
    assert {"app.js", "dom.js"} <= texts.keys()
    assert [(name, word) for name, text in texts.items() for word in acting if word in text] == []
    assert [name for name, text in found.items() if name.endswith(".css") and "http" in text] == []


def test_both_languages_have_all_texts() -> None:
    folder = Path(page.__file__).parent / "static"

    def keys(name: str) -> list[str]:
        lines = (folder / name).read_text()
        return [part.rpartition('"')[2] for part in lines.split('": "')[:-1]]

    assert keys("words-en.js") == keys("words-zh.js")


NO_PAGE = {
    "bad_request", "conflict", "disk", "foreign_host", "foreign_origin", "no_session", "no_ticket", "not_ours",
    "share", "timeout", "too_large", "too_many_followers", "too_many_pages",
}  # fmt: skip
"""Refusals of calls that the page does not make, or of which their own sentence tells more."""


def test_refusals_to_the_page_exist_in_both_languages() -> None:
    console = Path(page.__file__).parent
    asked = "".join(path.read_text() for path in (*console.glob("*.py"), Path(outbox.__file__)))
    codes = set(re.findall(r'\b[45]\d\d, (?:event\.job, )?"([a-z_]+)"', asked)) - NO_PAGE
    said = (console / "static" / "words-zh.js").read_text()
    assert {"ended", "output_taken", "result_gone", "other_size", "quota"} <= codes
    assert {code for code in codes if f'"bad.{code}"' not in said} == set()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_link_is_shown_on_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(opening.sys.stdout, "isatty", lambda: terminal, raising=False)
    with opening.shown(tmp_path, "http://127.0.0.1:1", lambda: "secret", browser=False):
        said = capsys.readouterr().out
    assert ("http://127.0.0.1:1/#link=secret" in said) == terminal
    assert "http://127.0.0.1:1/" in said


def test_a_browser_is_not_given_the_link_on_its_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(opening.webbrowser, "open", lambda url: given.append(url) or True)
    assert opening.in_browser(tmp_path, "http://127.0.0.1:1/#link=secret")
    assert "secret" not in given[0]
    assert "#link=secret" in (tmp_path / opening.PAGE).read_text()


async def test_a_timeline_of_open_jobs_is_not_sorted_at_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(timelines, "_together", lambda rows: looks.append(len(rows)) or [])
    timeline = Timeline(kept=100)
    for number in range(400):
        timeline.row("out", "running", {"event": "running"}, f"job-{number % 90}")
    assert 75 <= len(timeline.rows) <= 100
    assert len(looks) < 20


async def test_the_link_state_survives_many_later_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelines, "SHOWN", 50)
    timeline = Timeline(kept=100)
    timeline.row("conn", "up", {"url": "ws://hub"})
    for _ in range(500):
        timeline.row("in", "gpu.power.state", {"type": "gpu.power.state"})
    shown = timeline.since(0)
    assert [row["label"] for row in shown] == ["up", *["gpu.power.state"] * 50]
    assert [row["label"] for row in timeline.since(shown[-2]["seq"])] == ["gpu.power.state"]


async def test_a_suspended_pc_has_clock_times_and_no_gap_in_its_log() -> None:
    clock = Clock()
    timeline = Timeline(now=clock)
    timeline.begin(Header("daemon", clock.now, 7))
    for slept in (0.0, 28_800.0, 0.0):
        clock.now += slept
        timeline.row("out", "running", {"event": "running"}, "a")
    before, after, later = (row["t"] for row in timeline.since(0))
    assert (round(after - before), round(later - after)) == (28_800, 0)
    log = read_log(io.BytesIO(b"".join(timeline.lines())))
    assert log.rows[-1].t < 60


async def test_rows_have_the_time_of_the_clock_however_long_the_program_takes_to_start() -> None:
    clock = Clock()
    timeline = Timeline(now=clock)
    timeline._start -= 0.9
    header = Header("daemon", clock.now, 7)
    clock.now += 0.25
    loop = asyncio.get_running_loop()
    start = loop.time()
    timeline.begin(header)
    timeline.row("out", "running", {"event": "running"}, "a")
    [row] = timeline.since(0)
    assert 0.249 < row["t"] < 0.251 + loop.time() - start


def test_times_of_a_hub_with_a_wrong_clock_are_corrected() -> None:
    told = {"ts": 1000, "gpus": [{"gpu": "a", "since": 940}, {"gpu": "b"}]}
    found = gpu.by_our_clock(told, 4600.5)
    assert (found["ts"], found["gpus"]) == (4600.5, [{"gpu": "a", "since": 4540.5}, {"gpu": "b"}])
    assert gpu.by_our_clock(told, 1001.0) == told
    assert gpu.by_our_clock({**told, "ts": None}, 1001.0)["gpus"] == told["gpus"]


@pytest.mark.parametrize(("languages", "said"), [("en", ("further GPUs", "10")), ("zh-CN", ("其他 GPU", "10"))])
def test_the_hubs_page_counts_omitted_gpus(languages: str, said: tuple[str, str]) -> None:
    state = HubState()
    state.gpus = {f"gpu-{number}": Gpu(f"gpu-{number}") for number in range(60)}
    facts = hub_facts(state, 5.0, words_for(languages))
    assert said in facts
    assert len([name for name, _ in facts if name.startswith("GPU gpu-")]) == 50


@pytest.mark.parametrize(
    ("languages", "said"), [("en", ("Depot", "not connected")), ("zh-CN", ("文件仓库", "没有连接"))]
)
def test_the_hubs_page_says_whether_its_depot_is_there(languages: str, said: tuple[str, str]) -> None:
    away = HubState(depot_of=("id-depot", "depot"))
    assert said in hub_facts(away, 5.0, words_for(languages))
    assert said[0] not in dict(hub_facts(HubState(), 5.0, words_for(languages)))


def begun(epoch: float) -> Timeline:
    timeline = Timeline(now=lambda: epoch)
    timeline.begin(Header("daemon", epoch, 0))
    return timeline


async def run_of(path: Path, boot: str, *labels: str) -> TimelineFile:
    """A run of the program: what was kept before it is read, then these rows happen and are kept."""
    timeline = begun(1000.0)
    kept = TimelineFile(path, boot, timeline)
    await kept.load()
    for label in labels:
        timeline.row("out", label, {"event": label}, "job-1")
        await kept.write()
    return kept


def labels(kept: TimelineFile, seen: str = "") -> list[tuple[str, list[str]]]:
    return [(run["boot"], [row["label"] for row in run["rows"]]) for run in kept.earlier(seen)]


async def test_the_timeline_of_earlier_runs_is_there_after_restarts(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    assert labels(await run_of(path, "one", "queued", "done")) == []
    assert labels(await run_of(path, "two", "failed")) == [("one", ["queued", "done"])]
    third = await run_of(path, "three")
    assert labels(third) == [("one", ["queued", "done"]), ("two", ["failed"])]
    assert labels(third, seen="two") == [("two", ["failed"])]
    assert labels(third, seen="long ago") == labels(third)
    assert third.earlier("")[0]["epoch"] == 1000.0


async def test_rows_whose_write_waits_for_a_thread_when_the_daemon_stops_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, timeline = tmp_path / "timeline.jsonl", begun(1000.0)
    kept = TimelineFile(path, "one", timeline)
    timeline.row("out", "done", {"event": "done"}, "job-1")
    monkeypatch.setattr(timelines, "EVERY", 0.0)
    await cancelled_before_its_thread(kept.keep(), monkeypatch)
    await kept.write()
    assert labels(await run_of(path, "two")) == [("one", ["done"])]


async def test_a_timeline_that_was_cut_or_is_rubbish_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    await run_of(path, "one", "queued", "done")
    path.write_bytes(path.read_bytes()[:-10])
    assert labels(await run_of(path, "two")) == [("one", ["queued"])]
    path.write_bytes(b'rubbish\n[1]\n{"boot": 3}\n{"seq": 1, "t": "x", "label": "lost"}\n\xff\n')
    assert labels(await run_of(path, "three", "done")) == []
    assert labels(await run_of(path, "four")) == [("three", ["done"])]


async def test_the_kept_timeline_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelines, "EARLIER", 3)
    path = tmp_path / "timeline.jsonl"
    await run_of(path, "one", *(f"event-{number}" for number in range(20)))
    assert path.read_bytes().count(b"\n") <= 1 + 2 * 3
    assert labels(await run_of(path, "two")) == [("one", ["event-17", "event-18", "event-19"])]


async def test_a_disk_that_takes_no_timeline_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "timeline.jsonl").mkdir()
    assert labels(await run_of(tmp_path / "timeline.jsonl", "one", "queued", "done")) == []


def test_the_page_stays_light() -> None:
    assert Page().weight <= 108_000  # as a browser fetches it
    assert sum(map(len, files_of("wakestream.adapters.daemon.console").values())) <= 315_000
