import argparse
import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support.log_lines import logged
from wakestream.adapters.cli import at_daemon as following
from wakestream.adapters.cli import exit_codes, flags, main, serve
from wakestream.adapters.cli import parser as parsing
from wakestream.adapters.cli import service as program
from wakestream.adapters.config import settings
from wakestream.adapters.config.setting_values import LEVELS
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.daemon.api_client import DaemonClient
from wakestream.operators.model.errors import HubUnreachable, NoSpace, StageTimeout, WakestreamError, WorkerUnreachable

Run = Callable[[argparse.Namespace], int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Puts one made-up command, `wave`, into the list."""

    def put(run: Run) -> None:
        module = types.ModuleType("wakestream.adapters.cli.commands.wave")
        vars(module).update(run=run)
        vars(module)["arguments"] = lambda parser: parser.add_argument("--to")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(main, "COMMANDS", {"wave": "wave to someone"})

    return put


def raising(error: BaseException) -> Run:
    def run(_args: argparse.Namespace) -> int:
        raise error

    return run


def test_a_command_is_run_with_its_arguments_and_gives_the_exit_code(command: Callable[[Run], None]) -> None:
    seen: list[argparse.Namespace] = []
    command(lambda args: seen.append(args) or 7)
    assert main.main(["wave", "--to", "you"]) == 7
    assert seen[0].to == "you"
    assert "log_level" not in seen[0]


@pytest.mark.parametrize("argv", [["--log-level", "DEBUG", "wave"], ["wave", "--log-level", "DEBUG"]])
def test_the_log_level_may_stand_before_and_after_the_command(command: Callable[[Run], None], argv: list[str]) -> None:
    seen: list[str] = []
    command(lambda args: seen.append(args.log_level) or 0)
    assert main.main(argv) == 0
    assert seen == ["DEBUG"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("no"), 2),
        (StageTimeout("online", 1800), 3),
        (HubUnreachable("no"), 4),
        (WorkerUnreachable("no"), 4),
        (NoSpace("no"), 1),
    ],
)
def test_an_error_becomes_one_line_and_its_exit_code(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str], error: WakestreamError, code: int
) -> None:
    command(raising(error))
    assert main.main(["wave"]) == code
    assert capsys.readouterr().err == f"wakestream: {error}\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room"),
        (OSError(errno.EMFILE, "Too many open files", "x.db"), "x.db: Too many open files"),
    ],
)
def test_system_errors_are_one_line_and_a_traceback_with_v(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str], error: OSError, said: str
) -> None:
    command(raising(error))
    assert main.main(["wave"]) == exit_codes.FAILED
    assert said in capsys.readouterr().err
    with pytest.raises(OSError, match=str(error.strerror)):
        main.main(["wave", "-v"])


def test_a_long_program_logs_why_it_ended(command: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch) -> None:
    command(raising(OSError(errno.EIO, os.strerror(errno.EIO))))
    monkeypatch.setattr(main, "LASTING", ("wave",))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        main.main(["wave"])


def run_in_shell(redirected: str) -> subprocess.CompletedProcess[str]:
    line = f"{sys.executable} -m wakestream.adapters.cli completion bash {redirected}"
    return subprocess.run(line, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - ours


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_a_full_disk_for_the_output_is_one_line() -> None:
    ran = run_in_shell("> /dev/full")
    assert (ran.returncode, ran.stderr.count("\n")) == (exit_codes.FAILED, 1)
    assert "No space left on device; make room" in ran.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell's way of closing it")
def test_a_closed_output_pipe_is_silent() -> None:
    ran = run_in_shell(">&-")
    assert (ran.returncode, ran.stdout, ran.stderr) == (exit_codes.DONE, "", "")


def test_json_is_utf_8_in_every_locale(tmp_path: Path) -> None:
    log = tmp_path / "hub.log"
    log.write_text("2026-01-01 10:00:00.123 INFO    - -  \u89c6\u9891 \U0001f600\n", encoding="utf-8")
    asked = (sys.executable, "-m", "wakestream.adapters.cli", "logs", str(log), "--json")
    ran = subprocess.run(asked, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "gbk"})
    assert json.loads(ran.stdout.decode("utf-8"))["message"] == "\u89c6\u9891 \U0001f600"


def test_ctrl_c_outside_of_a_loop_is_130(command: Callable[[Run], None]) -> None:
    command(raising(KeyboardInterrupt()))
    assert main.main(["wave"]) == exit_codes.INTERRUPTED


def test_a_result_without_a_name_is_refused_before_anything_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["demo", "--output", ""]) == exit_codes.USAGE
    assert "name a file in it for the result" in capsys.readouterr().err


def test_help_lists_commands_and_there_is_a_version(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(lambda _args: 0)
    for flag, expected in (("--help", "wave to someone"), ("--version", "wakestream 0.")):
        with pytest.raises(SystemExit) as end:
            main.main([flag])
        assert end.value.code == exit_codes.DONE
        assert expected in capsys.readouterr().out


def parsed(declare: Callable[[argparse.ArgumentParser], None], *argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    declare(parser)
    return parser.parse_args(argv)


def test_shared_flags_are_named_as_the_settings_are() -> None:
    found = vars(parsed(flags.connection, "--hub", "x", "--key-file", "f"))
    assert found == {"hub": "x", "key_file": "f", "ca": None, "record": None}
    assert parsed(flags.waits, "--online-timeout", "1h").online_timeout == "1h"
    assert parsed(flags.program, "--exit-with-stdin").exit_with_stdin is True


def test_the_listen_address_is_flag_then_environment_then_default(tmp_path: Path) -> None:
    def found(flag: str | None, **environment: str) -> tuple[str, int]:
        given = {"listen": flag} if flag else {}
        return flags.listen_on(settings.load(given, environment=environment, folder=tmp_path), "127.0.0.1:8080")

    assert found(None) == ("127.0.0.1", 8080)
    assert found(None, WAKESTREAM_LISTEN="127.0.0.1:9000") == ("127.0.0.1", 9000)
    assert found("[::1]:9001", WAKESTREAM_LISTEN="127.0.0.1:9000") == ("::1", 9001)
    with pytest.raises(settings.SettingsError, match=r"--listen 'here' is not HOST:PORT"):
        found("here")


def test_the_end_of_the_main_coroutine_is_the_end_of_the_program() -> None:
    async def five(_stop: asyncio.Event) -> int:
        return 5

    async def nothing(_stop: asyncio.Event) -> None:
        return None

    assert program.run_program(five) == 5
    assert program.run_program(nothing) == exit_codes.DONE


def test_errors_of_the_main_coroutine_come_out() -> None:
    async def fail(_stop: asyncio.Event) -> None:
        raise SettingsError("no")

    with pytest.raises(SettingsError):
        program.run_program(fail)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_asks_the_program_to_stop(number: signal.Signals, code: int) -> None:
    async def until_stopped(stop: asyncio.Event) -> None:
        signal.raise_signal(number)
        await stop.wait()

    before = signal.getsignal(number)
    assert program.run_program(until_stopped) == code
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_a_program_that_does_not_stop() -> None:
    cleaned: list[bool] = []

    async def stubborn(stop: asyncio.Event) -> None:
        signal.raise_signal(signal.SIGINT)
        await stop.wait()
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    assert program.run_program(stubborn) == exit_codes.INTERRUPTED
    assert cleaned == [True]


def test_the_end_of_standard_input_asks_the_program_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()

    async def until_stopped(stop: asyncio.Event) -> None:
        assert not stop.is_set()
        os.write(writer, b"ignored\n")
        os.close(writer)
        await stop.wait()

    with os.fdopen(reader) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert program.run_program(until_stopped, exit_with_stdin=True) == exit_codes.DONE


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


async def test_a_used_port_is_explained(taken: int) -> None:
    with pytest.raises(SettingsError, match=f"127.0.0.1:{taken} is taken"), serve.listening("127.0.0.1", taken):
        await asyncio.start_server(lambda *_: None, "127.0.0.1", taken)


async def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(SettingsError, match="no address of this machine"), serve.listening("192.0.2.1", 0):
        await asyncio.start_server(lambda *_: None, "192.0.2.1", 0)


def test_the_announcement_is_one_line_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    serve.announce("hub", "ws://127.0.0.1:1/dsp")
    assert capsys.readouterr().out == "wakestream hub listening on ws://127.0.0.1:1/dsp\n"


def test_help_loads_nothing_that_is_slow_to_import() -> None:
    """Every command is listed, and none of the libraries that the programs run on is imported for that."""
    script = (
        "import sys; from wakestream.adapters.cli.main import main, COMMANDS\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'aiohttp', 'blake3', 'dotenv', 'loguru', 'reactivex', 'rich', 'websockets'} & sys.modules.keys()\n"
        "print('SLOW', sorted(slow), len(COMMANDS))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert f"SLOW [] {len(main.COMMANDS)}" in shown
    assert all(f"\n    {name} " in shown for name in main.COMMANDS)


@pytest.mark.parametrize("command", ["submit", "daemon", "monitor"])
def test_a_program_starts_without_what_it_needs_for_pairing_or_in_the_foreground(command: str) -> None:
    slow = {"cryptography", "spake2", *(["wakestream.adapters.client.client"] if command == "submit" else [])}
    script = f"import sys, wakestream.adapters.cli.commands.{command}; print({slow} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"


@pytest.mark.parametrize(
    ("argv", "level"),
    [([], "CRITICAL"), (["-q"], "CRITICAL"), (["-v"], "DEBUG"), (["-q", "--log-level", "INFO"], "INFO")],
)
def test_an_error_that_the_command_prints_is_not_logged_too(
    argv: list[str], level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    levels: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wakestream.adapters.telemetry.logs.configure", lambda given, *_, **__: levels.append(given))
    parser = main.parser_of(("status",))
    args = parser.parse_args(["status", *argv])
    parsing.settle(parser, args)
    program.begin(args, usual_level="CRITICAL")
    assert levels == [level]


def test_the_levels_of_the_flag_are_those_of_the_settings() -> None:
    assert parsing.LEVELS == LEVELS


async def test_a_wait_that_the_daemon_overrides_is_reported_as_without_effect() -> None:
    class Client:
        async def look(self) -> dict[str, object]:
            return {"hub": None}

    with logged("WARNING") as said:
        argv = ["submit", "clip.mp4", "speech.wav", "--transfer-timeout", "5", "--poll-every", "1", "--trace"]
        ignored = following.daemons_own(main.parser_of(("submit",)).parse_args(argv))
        assert await following.daemon_for(cast("DaemonClient", Client()), None, needed=False, ignored=ignored)
    assert [text.partition(" ")[0] for text in said] == ["--trace", "--transfer-timeout", "--poll-every"]
