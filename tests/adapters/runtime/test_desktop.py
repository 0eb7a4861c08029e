"""Files and notifications are given to the desktop's own programs, without a shell."""

import os
import sys
from pathlib import Path

import pytest

from wakestream.adapters.runtime import desktop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the programs of other systems are others")

ODD = "a 'b' $(touch x);\n-c"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipe to which `xdg-open` and `notify-send` write their arguments, on a machine with a screen."""
    pipe, programs = tmp_path / "told", tmp_path / "programs"
    os.mkfifo(pipe)
    programs.mkdir()
    for name in ("xdg-open", "notify-send"):
        (programs / name).write_text(f'#!/bin/sh\nprintf "%s|" "$0" "$@" > {pipe}\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":9")
    return pipe


def test_a_file_is_opened_with_the_systems_program(told: Path, tmp_path: Path) -> None:
    path = tmp_path / ODD.replace("\n", "")
    assert desktop.open_file(path)
    assert told.read_text().split("|")[1:-1] == [str(path)]


def test_a_notification_is_two_arguments_and_no_options(told: Path) -> None:
    reader = os.open(told, os.O_RDONLY | os.O_NONBLOCK)
    desktop.notify("-u critical", ODD)
    said = os.read(reader, 65536).decode().split("|")[1:-1]
    os.close(reader)
    assert said == ["--app-name=wakestream", "--", "-u critical", ODD.replace("\n", "\ufffd")]


def test_on_a_mac_the_name_of_a_file_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(desktop, "_command", lambda *words: [*words])
    monkeypatch.setattr(desktop, "_runs", lambda command, _: not ran.append(command))
    desktop.notify("-l.mp4", "done")
    assert ran[0][-4:] == ["end run", "wakestream", "-l.mp4", "done"]


def test_without_a_screen_the_bell_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    rung: list[bool] = []
    monkeypatch.setattr(desktop, "ring", lambda: rung.append(True))
    desktop.notify("clip.mp4", "done")
    assert rung == [True]
    assert not desktop.open_file(Path("clip.mp4"))


@pytest.mark.usefixtures("told")
def test_a_program_that_fails_rings_the_bell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "programs" / "notify-send").write_text("#!/bin/sh\nexit 1\n")
    rung: list[bool] = []
    monkeypatch.setattr(desktop, "ring", lambda: rung.append(True))
    desktop.notify("clip.mp4", "done")
    assert rung == [True]
