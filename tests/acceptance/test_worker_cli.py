"""`wakestream worker` as a program of its own."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

SECRET = "open-sesame-0123456789"


def environment(**more: str) -> dict[str, str]:
    ours = ("WAKESTREAM_", "HEYGEM_", "API_SERVER_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "wakestream.adapters.cli", "worker", *arguments]


def ended(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("--state", str(folder / "state"), *arguments),
        cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip


def test_the_worker_logs_its_address_and_stops_at_the_end_of_stdin(tmp_path: Path) -> None:
    argv = command("--listen", "127.0.0.1:0", "--state", str(tmp_path / "state"), "--exit-with-stdin")
    with subprocess.Popen(
        argv, cwd=tmp_path, env=environment(HEYGEM_API_SECRET=SECRET), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        said = program.stdout.readline()
        assert said.startswith("wakestream worker listening on http://127.0.0.1:")
        with urllib.request.urlopen(f"{said.split()[-1]}/api/heygem/health", timeout=20) as reply:  # noqa: S310
            assert json.load(reply)["code"] == 0
        _, log = program.communicate(timeout=20)
    assert program.returncode == 0
    assert SECRET not in log


def test_without_a_secret_it_exits_with_the_missing_setting(tmp_path: Path) -> None:
    refused = ended(tmp_path, "--listen", "127.0.0.1:0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "set HEYGEM_API_SECRET" in refused.stderr


def test_a_used_port_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = ended(tmp_path, "--listen", address, HEYGEM_API_SECRET=SECRET)
    assert refused.returncode == 2
    assert f"{address} is taken" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engine", "command"], "needs either --command"),
        (["--engine", "command", "--command", "run {video} {audio}"], "{output}"),
        (["--engine", "magic"], "--engine is 'magic'; installed are"),
        (["--keep", "for ever"], "--keep: 'for ever' is not a time"),
        (["--spare-disk=-1"], "--spare-disk: '-1' is no number of GiB"),
        (["--warm-up", "soon"], "--warm-up: 'soon' is not a time"),
        (["--public-url", "ftp://gpu"], "--public-url begins with ftp://"),
        (["--listen", "nowhere"], "HOST:PORT"),
    ],
)
def test_wrong_usage_prints_the_right_usage(tmp_path: Path, arguments: list[str], said: str) -> None:
    refused = ended(tmp_path, *arguments, HEYGEM_API_SECRET=SECRET)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_state_folder_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    refused = ended(tmp_path, "--listen", "127.0.0.1:0", HEYGEM_API_SECRET=SECRET)
    assert refused.returncode == 2
    assert "--state" in refused.stderr


@pytest.mark.parametrize("blank", [" ", "\t", "\n", " \r\n "])
def test_a_blank_secret_opens_no_worker(tmp_path: Path, blank: str) -> None:
    refused = ended(tmp_path, "--listen", "127.0.0.1:0", HEYGEM_API_SECRET=blank)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "HEYGEM_API_SECRET is blank; set a secret of 16 characters or more" in refused.stderr


def test_a_blank_secret_in_the_env_file_opens_no_worker(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('HEYGEM_API_SECRET=" "\n')
    refused = ended(tmp_path, "--listen", "127.0.0.1:0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert ".env line 1 (HEYGEM_API_SECRET) is blank" in refused.stderr


def test_with_no_secret_it_warns_and_accepts_any_caller(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HEYGEM_API_SECRET=\n")  # as deployed installations have it
    argv = command("--listen", "127.0.0.1:0", "--state", str(tmp_path / "state"), "--no-secret", "--exit-with-stdin")
    with subprocess.Popen(
        argv, cwd=tmp_path, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        url = program.stdout.readline().split()[-1]
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer any"}):
            asked = urllib.request.Request(f"{url}/api/heygem/queue", headers=headers)  # noqa: S310
            with urllib.request.urlopen(asked, timeout=20) as reply:  # noqa: S310
                assert json.load(reply)["code"] == 0
        _, log = program.communicate(timeout=20)
    assert program.returncode == 0
    assert "WARNING" in log
    assert "no secret guards this worker" in log


def test_no_secret_beside_a_secret_is_refused(tmp_path: Path) -> None:
    refused = ended(tmp_path, "--listen", "127.0.0.1:0", "--no-secret", HEYGEM_API_SECRET=SECRET)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--no-secret" in refused.stderr
    assert SECRET not in refused.stderr


def test_without_a_secret_the_flag_that_opens_the_worker_is_named(tmp_path: Path) -> None:
    assert "--no-secret" in ended(tmp_path, "--listen", "127.0.0.1:0").stderr
