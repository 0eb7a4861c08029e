import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from loguru import logger

from tests.support.log_lines import forget_logs
from wakestream.adapters.runtime import known_secrets
from wakestream.adapters.telemetry import logs

KEY = "ws_client_abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    written: list[str] = []
    with logs.through(written.append):
        yield written
    forget_logs()


def test_a_line_has_time_level_job_and_stage(lines: list[str]) -> None:
    logs.configure("INFO")
    logger.bind(job="j1", stage="upload").info("half way")
    (line,) = lines
    time, level, job, stage, *words = line.split()
    assert time.count(":") == 2
    assert (level, job, stage, words) == ("INFO", "j1", "upload", ["half", "way"])


def test_lines_below_the_level_are_left_out(lines: list[str]) -> None:
    logs.configure("WARNING")
    logger.info("quiet")
    assert lines == []


def test_a_message_of_several_lines_stays_one_line(lines: list[str]) -> None:
    logs.configure("INFO")
    logger.info("a\nFAKE LINE\r\nb")
    assert lines[0].count("\n") == 1


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        'got "hunter22" from the settings',
        'Authorization: Bearer abc.def-123\\"',
        f"key {KEY}",
        '{"type":"register","license_key":"abcdef"}',
        "{'token': 'abcdef'}",
        '"{\\"key\\":\\"abcdef\\"}"',
    ],
)
def test_secrets_are_redacted_wherever_they_stand_and_json_stays_json(
    lines: list[str], text: str, as_json: bool
) -> None:
    known_secrets.hide("hunter22")
    logs.configure("INFO", json=as_json)
    logger.info("{}", text)
    logger.bind(job=text).info("x")
    logger.bind(stage=text).info("x")
    for line in lines:
        assert "***" in line
        assert not any(secret in line for secret in ("hunter22", "abc.def", KEY, "abcdef"))
        assert not as_json or json.loads(line)


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_redacted_in_exceptions_and_no_variables_are_shown(lines: list[str], as_json: bool) -> None:
    known_secrets.hide("hunter22")
    logs.configure("INFO", json=as_json)

    def failing(password: str) -> None:
        raise ValueError(f"bad {password}\nand more")

    try:
        failing("hunter22")
    except ValueError:
        logger.exception("it broke")
    (line,) = lines
    assert "ValueError: bad ***" in line
    assert "hunter22" not in line
    if as_json:
        assert line.count("\n") == 1
        told = json.loads(line)
        assert (told["message"], told["error"]) == ("it broke", "ValueError: bad ***\nand more")
        assert "in failing" in told["traceback"]


def test_a_secret_added_later_is_hidden(lines: list[str]) -> None:
    logs.configure("INFO")
    known_secrets.hide("swordfish", "ab")
    logger.info("swordfish about")
    assert "*** about" in lines[0]
    assert known_secrets.redacted_text("swordfish") == "***"


def test_words_similar_to_keys_stay(lines: list[str]) -> None:
    logs.configure("INFO")
    logger.info("the bearer of ws_link and the key of it")
    assert "ws_link and the key of it" in lines[0]


def test_warnings_of_libraries_become_our_lines(lines: list[str]) -> None:
    known_secrets.hide("hunter22")
    logs.configure("INFO")
    logging.getLogger("websockets.client").warning("odd frame {x} %s", "hunter22")
    logging.getLogger("aiohttp.access").info("not shown")
    (line,) = lines
    assert "WARNING - websockets  odd frame {x} ***" in line


def test_after_through_lines_go_to_stderr_again(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logger.info("to stderr")
    logger.remove()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "to stderr" in captured.err


def test_a_closed_stderr_does_not_end_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    logs.configure("INFO")
    monkeypatch.setattr("sys.stderr", Closed())
    logger.info("into nothing")
    logger.remove()


def test_a_json_line_has_time_level_message_job_stage_program_and_error(lines: list[str]) -> None:
    logs.configure("INFO", json=True, program="worker")
    logger.bind(job="j1", stage="render").info("half way\nthere")
    logger.warning("{}", "odd")
    told, odd = map(json.loads, lines)
    time = datetime.fromisoformat(told.pop("time"))
    assert time.utcoffset() == timedelta(0)
    assert told == {
        "level": "INFO",
        "message": "half way\nthere",
        "job": "j1",
        "stage": "render",
        "program": "worker",
        "error": None,
    }
    assert (odd["level"], odd["job"], odd["stage"]) == ("WARNING", None, None)


@pytest.mark.parametrize("text", ["a\u2028b", "\udcff", "a\x00b", "没有", "x\x85y"])
def test_no_letter_breaks_a_json_line_into_two(lines: list[str], text: str) -> None:
    logs.configure("INFO", json=True)
    logger.info("{}", text)
    (line,) = lines[0].splitlines()
    assert json.loads(line)["message"] == text


def test_warnings_of_libraries_become_json_as_well(lines: list[str]) -> None:
    logs.configure("INFO", json=True)
    logging.getLogger("aiohttp.server").error("odd", exc_info=(ValueError, ValueError("x"), None))
    told = json.loads(lines[0])
    assert (told["stage"], told["level"], told["error"]) == ("aiohttp", "ERROR", "ValueError: x")


def test_an_unexpected_error_is_a_json_line() -> None:
    code = "from wakestream.adapters.telemetry import logs; logs.configure('INFO', json=True, program='hub'); 1 / 0"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    told = json.loads(line)
    assert (told["level"], told["program"], told["error"]) == ("CRITICAL", "hub", "ZeroDivisionError: division by zero")


EVIL = "a\x1b[31mb\x1b]0;t\x07\x9b \u202ec\x85\u2028FAKE\r\nFAKE"


def test_a_line_with_a_quote_has_no_control_characters(lines: list[str]) -> None:
    logs.configure("INFO")
    logger.bind(job=EVIL, stage=EVIL).info("{} and 配额", EVIL)
    (line,) = lines[0].splitlines()
    assert line.isprintable()
    assert "and 配额" in line


def test_an_error_that_a_traceback_quotes_ends_no_line_of_it(lines: list[str]) -> None:
    logs.configure("INFO")
    error = OSError(EVIL)
    error.__cause__ = ValueError(EVIL)
    logger.opt(exception=error).error("it broke")
    shown = lines[0].splitlines()
    assert all(line.isprintable() for line in shown)
    assert not any(line.startswith("FAKE") for line in shown)
    assert [line.partition(":")[0] for line in shown if "ab\ufffd" in line] == ["ValueError", "OSError"]
    assert "The above exception was the direct cause" in lines[0]


def test_an_unexpected_error_is_printed_without_control_characters_and_secrets() -> None:
    names = "from wakestream.adapters.runtime.known_secrets import hide; from wakestream.adapters.telemetry import logs"
    code = f"{names}; hide('hunter22'); logs.configure('INFO'); raise OSError('\\x1b[2J\\nhunter22')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "OSError: \ufffd***"
