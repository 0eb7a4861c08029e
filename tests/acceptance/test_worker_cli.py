"""`wakestream worker` as a program of its own."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.support.programs.client_scene import User, clean_environment
from tests.support.programs.here import Here

SECRET = "open-sesame-0123456789"
LISTEN = ("--listen", "127.0.0.1:0")
BOTH = "--poweroff-after TIME and --poweroff COMMAND belong together; give both"


@contextmanager
def runs(user: User, *flags: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address and its process; it ends with its standard input."""
    with subprocess.Popen(
        [sys.executable, "-m", "wakestream.adapters.cli", "worker", *LISTEN, "--exit-with-stdin", *flags],
        cwd=user.folder, env=clean_environment() | environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        said = program.stdout.readline()
        assert said.startswith("wakestream worker listening on http://127.0.0.1:")
        yield said.split()[-1], program


def test_the_worker_logs_its_address_and_stops_at_the_end_of_stdin(user: User) -> None:
    with runs(user, "--state", "state", HEYGEM_API_SECRET=SECRET) as (url, program):
        with urllib.request.urlopen(f"{url}/api/heygem/health", timeout=100) as reply:  # noqa: S310
            assert json.load(reply)["code"] == 0
        _, log = program.communicate(timeout=100)
    assert program.returncode == 0
    assert SECRET not in log


def test_with_no_secret_it_warns_and_accepts_any_caller(user: User) -> None:
    (user.folder / ".env").write_text("HEYGEM_API_SECRET=\n")  # as deployed installations have it
    with runs(user, "--state", "state", "--no-secret") as (url, program):
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer any"}):
            asked = urllib.request.Request(f"{url}/api/heygem/queue", headers=headers)  # noqa: S310
            with urllib.request.urlopen(asked, timeout=100) as reply:  # noqa: S310
                assert json.load(reply)["code"] == 0
        _, log = program.communicate(timeout=100)
    assert program.returncode == 0
    assert "WARNING" in log
    assert "no secret guards this worker" in log


@pytest.mark.parametrize(
    ("arguments", "secret", "words"),
    [
        (["--engine", "command"], SECRET, ["needs either --command"]),
        (["--engine", "command", "--command", "run {video} {audio}"], SECRET, ["{output}"]),
        (["--engine", "magic"], SECRET, ["--engine is 'magic'; installed are"]),
        (["--keep", "for ever"], SECRET, ["--keep: 'for ever' is not a time"]),
        (["--spare-disk=-1"], SECRET, ["--spare-disk: '-1' is no number of GiB"]),
        (["--warm-up", "soon"], SECRET, ["--warm-up: 'soon' is not a time"]),
        (["--public-url", "ftp://gpu"], SECRET, ["--public-url begins with ftp://"]),
        (["--listen", "nowhere"], SECRET, ["HOST:PORT"]),
        (["--slots", "0"], SECRET, ["--slots is '0'; write a whole number from 1 to 64"]),
        (["--slots", "1000"], SECRET, ["--slots is '1000'; write a whole number from 1 to 64"]),
        (["--slots", "two"], SECRET, ["--slots is 'two'; write a whole number from 1 to 64"]),
        (
            ["--label", "gpu=other"],
            SECRET,
            ["--label cannot be used: the label 'gpu' is given by the hub; use another"],
        ),
        (
            ["--slots", "2", "--engine", "duix", "--engine-option", "folder=."],
            SECRET,
            ["the engine duix does one task at a time; leave --slots out"],
        ),
        (["--poweroff-after", "2h"], SECRET, [BOTH]),
        (["--poweroff", "systemctl poweroff"], SECRET, [BOTH]),
        (["--state", "clip.mp4", *LISTEN], SECRET, ["--state"]),
        ([*LISTEN, "--no-secret"], SECRET, ["--no-secret"]),
        (LISTEN, "", ["set HEYGEM_API_SECRET", "--no-secret"]),
        (LISTEN, " \r\n ", ["HEYGEM_API_SECRET is blank; set a secret of 16 characters or more"]),
        (LISTEN, None, [".env line 1 (HEYGEM_API_SECRET) is blank"]),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(
    user: User, here: Here, arguments: Sequence[str], secret: str | None, words: list[str]
) -> None:
    if secret is None:
        (user.folder / ".env").write_text('HEYGEM_API_SECRET=" "\n')
    refused = here(
        user, "worker", "--state", "state", *arguments, **{"HEYGEM_API_SECRET": secret} if secret is not None else {}
    )
    assert (refused.code, refused.out) == (2, "")
    assert [each for each in words if each not in refused.err] == [], refused.err
    assert "Traceback" not in refused.err
    assert SECRET not in refused.err


def test_a_used_port_is_reported(user: User, here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = here(user, "worker", "--state", "state", "--listen", address, HEYGEM_API_SECRET=SECRET)
    assert refused.code == 2
    assert f"{address} is taken" in refused.err
    assert "Traceback" not in refused.err
