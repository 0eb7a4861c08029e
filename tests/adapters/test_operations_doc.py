"""What docs/operations.md prints is real: the programs' sentences, their flags and settings, the replay."""

from __future__ import annotations

import argparse
import ast
import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest

from wakestream.adapters import settings
from wakestream.adapters.cli.main import parser_of

ROOT = Path(__file__).parent.parent.parent
DOC = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def spoken() -> str:
    """Every text constant of the code, what varies in it replaced by the sign for that."""
    said: list[str] = []
    for folder in ("adapters", "streams", "operators"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    said.append("".join(_piece(value) for value in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    said.append(re.sub(r"\{[^{} ]*\}", "…", node.value))
    return "\n".join(said)


def _piece(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else "…"


def quoted() -> list[str]:
    """The first column of the last table."""
    table = DOC[DOC.index("## What you see, why, what to do") :]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


SPOKEN = spoken()


def test_the_table_of_what_you_see_is_found() -> None:
    assert len(quoted()) > 40


@pytest.mark.parametrize("sentence", quoted())
def test_a_sentence_of_the_page_is_one_that_the_programs_say(sentence: str) -> None:
    parts = [part for part in re.split("…|10 s", sentence) if len(part.strip(" ;:()")) > 3]
    assert parts
    for part in parts:
        assert part in SPOKEN, part


def test_every_flag_of_the_page_exists() -> None:
    known = set(re.findall(r"--[a-z][a-z-]+", _all_help(parser_of())))
    ours = re.sub(r"^    (docker|systemctl|schtasks|git) .*", _what_it_runs, DOC, flags=re.MULTILINE)
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours)) - {"--format", "--profile"}
    assert shown <= known


def _what_it_runs(line: re.Match[str]) -> str:
    """Of a line for somebody else's program, what it hands on to ours."""
    return line[0].partition(" hub ")[2]


def _all_help(parser: argparse.ArgumentParser) -> str:
    texts = [parser.format_help()]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts += [_all_help(each) for each in action.choices.values()]
    return "\n".join(texts)


def test_the_settings_file_of_the_page_is_read(tmp_path: Path) -> None:
    text = re.findall(r"^```toml\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)[0]
    document = tomllib.loads(text)
    (tmp_path / "monitor.key").write_text("a-key", encoding="utf-8")
    text = text.replace(document["key_file"], (tmp_path / "monitor.key").as_posix())
    (tmp_path / "wakestream.toml").write_text(text, encoding="utf-8")
    found = settings.load({}, environment={}, folder=tmp_path)
    assert found.hub_url == "wss://hub.example/dsp"
    assert found.key == "a-key"
    assert found.waits == {"online": 1800.0}
    assert found.power_inspect == ("cloudctl", "state", "gpu-1")
    assert found.power_timeout == 60.0
    assert found.engine_command == tuple(document["engine"]["command"])
    assert found.engine_timeout == 4 * 3600.0


@pytest.mark.parametrize("branch", ["offline", "online"])
def test_the_replay_of_the_page_runs(
    branch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.findall(r"^```python\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)[0]
    monkeypatch.setattr(sys, "argv", ["replay.py", str(ROOT / "tests" / "logs" / f"{branch}.jsonl")])
    (tmp_path / "replay.py").write_text(code, encoding="utf-8")
    runpy.run_path(str(tmp_path / "replay.py"))
    assert capsys.readouterr().out.endswith("rows, 0 divergences\n")
