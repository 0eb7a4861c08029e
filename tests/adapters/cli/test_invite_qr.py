"""`wakestream invite --qr`: the command that joins, as a code on the terminal."""

import io
import sys
from pathlib import Path

import pytest
import segno

from wakestream.adapters.cli import main
from wakestream.adapters.cli.i18n.catalog import known
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.licenses import ROLES
from wakestream.adapters.net import qr_code


def matrix(lines: list[str]) -> list[list[int]]:
    """The modules that these lines show; 1 is dark."""
    halves = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    return [[halves[each][half] for each in line] for line in lines for half in (0, 1)]


def test_the_code_says_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["invite", "worker", "--state", str(tmp_path), "--public", "hub.example:8765", "--qr"]
    assert main.main(asked) == 0
    said, command, *code = capsys.readouterr().out.splitlines()
    typed = command.partition(": ")[2]
    assert typed.startswith("wakestream join hub.example:8765 ")
    assert typed.split()[-1] in said
    expected = [[*row] for row in segno.make_qr(typed, error="m").matrix_iter(border=qr_code.QUIET)]
    assert matrix(code)[: len(expected)] == expected


def test_on_a_terminal_it_is_white_on_black_whatever_the_terminals_colours_are() -> None:
    lines = qr_code.lines("wakestream join hub.example 7F3K-92QD", colour=True)
    assert all(line.startswith("\x1b[97;40m") and line.endswith("\x1b[0m") for line in lines)
    assert max(len(line) for line in lines) - len("\x1b[97;40m\x1b[0m") <= 80


def test_the_picture_has_no_script_and_no_address() -> None:
    picture = qr_code.svg("</svg><script>alert(1)</script>")
    assert picture.count("<svg") == 1
    assert "script" not in picture
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_without_the_hubs_address_no_code_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["invite", "worker", "--state", str(tmp_path), "--qr"]) == 2
    assert "give --public URL" in capsys.readouterr().err
    assert Invites(tmp_path).valid(0.0) == []
    assert not (tmp_path / "invites.json").exists()


def test_an_output_that_cannot_show_it_is_told_and_no_code_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    assert main.main(["invite", "worker", "--state", str(tmp_path), "--public", "hub.example", "--qr"]) == 2
    assert "this output cannot show a QR code" in capsys.readouterr().err
    assert not (tmp_path / "invites.json").exists()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_joins_with_a_code_is_told_what_it_can_do_now(
    role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = main.main(["invite", role, "--state", str(tmp_path)]) == 0
    assert made == known(f"join.done.{role}")
    assert made or "license issue --role front" in capsys.readouterr().err
