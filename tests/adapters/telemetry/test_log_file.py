"""`--log-file` and `wakestream logs`: kept within bounds, clean of secrets, read back in either form."""

import argparse
import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loguru import logger

from tests.support.log_lines import forget_logs
from wakestream.adapters.cli import main
from wakestream.adapters.cli import service as program
from wakestream.adapters.cli.render.log_reader import Tail, followed, line, wanted
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.runtime import known_secrets
from wakestream.adapters.runtime.printing import say_json
from wakestream.adapters.telemetry import logs
from wakestream.adapters.telemetry.logs import LogFile, pieces

PLAIN = """\
2026-01-01 10:00:00.123 INFO    ws-1 upload  half way
2026-01-01 10:00:01.000 ERROR   - link  broke
Traceback (most recent call last):
ValueError: no
2026-01-01 10:00:02.000 DEBUG   ws-2 -  it waits for ws-1
"""
AS_JSON = {"time": "2026-01-01T10:00:03.000Z", "level": "WARNING", "message": "late", "job": "ws-2", "stage": None}


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    with logs.through(lambda _: None):
        yield
    forget_logs()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "hub.log"
    path.write_text(PLAIN + json.dumps(AS_JSON) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("as_json", [False, True])
def test_a_program_keeps_its_log_with_the_date_and_without_secrets(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "hub.log"
    known_secrets.hide("swordfish")
    logs.configure("INFO", json=as_json, program="hub", file=path)
    logger.bind(job="ws-1", stage="upload").info("the word is swordfish")
    logger.debug("not this")
    text = path.read_text(encoding="utf-8")
    (each,) = [line(row) for row in text.splitlines()]
    assert (each.level, each.job, each.stage, each.message) == ("INFO", "ws-1", "upload", "the word is ***")
    assert each.time[:2] == "20"
    assert text.startswith("{") is as_json


def test_a_log_file_is_cut_into_pieces_of_which_a_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PIECE", 1000)
    path = tmp_path / "hub.log"
    file = LogFile(path)
    for number in range(500):
        file.write(f"line {number:03} {'x' * 40}\n")
    file.close()
    assert [piece.name for piece in pieces(path)] == [*(f"hub.log.{number}" for number in (4, 3, 2, 1)), "hub.log"]
    assert sum(piece.stat().st_size for piece in tmp_path.iterdir()) <= 5000
    assert "line 499" in path.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_a_log_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    LogFile(tmp_path / "hub.log").close()
    assert (tmp_path / "hub.log").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_reported_once_and_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, _text: str, /) -> int:
            raise OSError(28, "No space left on device")

    file = LogFile(tmp_path / "hub.log")
    file.stream.close()
    file.stream = Full()  # type: ignore[assignment]
    file.write("one\n")
    file.write("two\n")
    file.stream = None  # type: ignore[assignment]
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_place_that_cannot_be_written_to_is_wrong_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--log-file .*cannot be written"):
        LogFile(tmp_path / "no such folder" / "logs" / "hub.log")


def begun(**flags: object) -> None:
    program.begin(argparse.Namespace(command="hub", **flags))


def test_only_the_program_with_the_flag_writes_the_log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAKESTREAM_LOG_FILE", str(tmp_path / "a.log"))
    begun()
    assert not (tmp_path / "a.log").exists()
    begun(log_file=None)
    logger.info("here")
    assert "here" in (tmp_path / "a.log").read_text(encoding="utf-8")
    assert "WAKESTREAM_LOG_FILE" not in os.environ


def test_quiet_is_for_the_screen_not_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown: list[str] = []
    with logs.through(shown.append):
        begun(log_file="a.log", quiet=True, log_level="ERROR")
        logger.info("all is well")
    assert shown == []
    assert "all is well" in Path("a.log").read_text(encoding="utf-8")


def seen(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main.main(["logs", *argv]) == 0
    return capsys.readouterr().out.splitlines()


def test_both_forms_are_shown_alike(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = seen(capsys, str(written))
    assert shown[:5] == PLAIN.splitlines()
    assert shown[5].endswith("WARNING ws-2 -  late")
    assert "\x1b" not in "".join(shown)


@pytest.mark.parametrize(
    ("flags", "messages"),
    [
        (("--level", "error"), ["broke", "Traceback (most recent call last):", "ValueError: no"]),
        (("--job", "ws-1"), ["half way", "it waits for ws-1"]),
        (("--job", "ws-2", "--level", "WARNING"), ["late"]),
        (("--last", "2"), ["it waits for ws-1", "late"]),
        (("--job", "ws-3"), []),
    ],
)
def test_lines_are_chosen_by_job_and_level(
    written: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], messages: list[str]
) -> None:
    shown = [json.loads(text) for text in seen(capsys, str(written), "--json", *flags)]
    assert [each["message"] for each in shown] == messages


def test_older_pieces_come_first_and_an_open_line_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log.1").write_text("older\n", encoding="utf-8")
    (tmp_path / "a.log").write_bytes(b"newer\r\ntorn \xff")
    assert seen(capsys, str(tmp_path / "a.log")) == ["older", "newer", "torn \ufffd"]


def test_control_characters_are_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_text("10:00:00.000 INFO    - -  \x1b[2Jgone \x1b]0;title\x07\n", encoding="utf-8")
    assert seen(capsys, str(tmp_path / "a.log")) == ["10:00:00.000 INFO    - -  gone \ufffd]0;title\ufffd"]


def test_without_a_file_the_daemons_log_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAKESTREAM_LOG_FILE", raising=False)
    assert main.main(["logs", "--state", str(tmp_path)]) == 2
    assert "--log-file FILE" in capsys.readouterr().err
    (tmp_path / "daemon.log").write_text("here\n", encoding="utf-8")
    assert seen(capsys, "--state", str(tmp_path)) == ["here"]


def steps(*each: Callable[[], object]) -> Callable[[], None]:
    """Something else to do in each wait; the last one ends it."""
    todo = iter(each)

    def wait() -> None:
        step = next(todo, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    return wait


def test_a_log_is_followed_through_half_lines_and_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\nhalf ")
    heard: list[str] = []

    def more(text: bytes) -> None:
        with path.open("ab") as file:
            file.write(text)

    def rotated() -> None:
        more(b"last of the old\n")
        path.rename(tmp_path / "a.log.1")
        more(b"first of the new\n")

    wait = steps(lambda: more(b"a line\n"), lambda: None, rotated, lambda: more(b"and on\n"))
    with pytest.raises(KeyboardInterrupt):
        heard.extend(followed(Tail(path), wait))
    assert heard == ["one", "half a line", "last of the old", "first of the new", "and on"]


def test_a_log_that_was_emptied_is_followed_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"a long first line\n")
    tail = Tail(path)
    assert list(tail.lines()) == ["a long first line"]
    path.write_bytes(b"new\n")
    assert list(tail.lines()) == ["new"]
    path.unlink()
    assert list(tail.lines()) == []


def test_other_json_is_shown_unchanged() -> None:
    texts = ['{"a": 1}', "{", '{"time": 5, "level": "INFO", "message": "m"}']
    assert [each.text for each in wanted(map(line, texts))] == texts
    assert [each.level for each in map(line, texts)] == ["", "", ""]


def test_json_stays_json_whatever_is_hidden_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hub.log"
    quoted = {**AS_JSON, "message": 'it said "Authorization: Bearer abc"', "traceback": "Traceback\nValueError: no"}
    plain = '2026-01-01 10:00:00.123 INFO    - -  refused "Authorization: Bearer ***" again\n'
    path.write_text(plain + json.dumps(quoted) + "\n", encoding="utf-8")
    first, second = (json.loads(text) for text in seen(capsys, str(path), "--json"))
    assert first["message"] == 'refused "Authorization: Bearer ***" again'
    assert second["message"] == 'it said "Authorization: Bearer ***"'
    assert second["traceback"] == "Traceback\nValueError: no"


def test_a_line_that_is_nested_too_deeply_is_shown_as_it_is() -> None:
    deep = '{"message": ' + "[" * 100_000
    assert (line(deep).text, line(deep).level) == (deep, "")


def test_a_programs_log_is_redacted_as_a_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("HEYGEM_API_SECRET=known-only-here-0123\n")
    log = tmp_path / "hub.log"
    log.write_text(
        "a line\nGET /?token=S3CR3T\nknown-only-here-0123\n"
        "-----BEGIN PRIVATE KEY-----\nS3CR3T\n-----END PRIVATE KEY-----\n"
    )
    assert main.main(["redact", str(log)]) == 0
    clean = (tmp_path / "hub.redacted.log").read_text()
    assert clean.splitlines() == ["a line", "GET /?token=***", "***", "***"]
    assert "secrets taken out of 5 of 6 lines" in capsys.readouterr().out
    assert main.main(["redact", str(log), "-o", str(log)]) == 2
    known_secrets.forget()


@pytest.mark.parametrize("command", [["status", "--hub", "http://h/?token=S3CR3T"], ["status", "--token=S3CR3T"]])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_that_quotes_a_secret_does_not_show_it(
    command: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        main.main([*command, *(["--json"] if as_json else [])])
    said = capsys.readouterr()
    assert said.err
    assert "S3CR3T" not in said.err + said.out


def test_json_for_programs_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"outcome": {"error": "GET https://h/?X-Amz-Signature=S3CR3T"}, "params": {"api_token": "S3CR3T"}})
    assert "S3CR3T" not in capsys.readouterr().out
