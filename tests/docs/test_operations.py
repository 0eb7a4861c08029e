"""What the pages for operators print is real: sentences, flags, settings, proxies, the replay; and none is left out."""

import argparse
import ast
import re
import runpy
import sys
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

from wakestream.adapters.cli.i18n.catalog import catalog
from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.cli.submission import HUB_PATIENCE
from wakestream.adapters.config import settings
from wakestream.adapters.worker.http.tus import AT
from wakestream.operators.model.policy import Policy
from wakestream.streams.jobs.daemon_pipeline import DURABLE

ROOT = Path(__file__).parents[2]
PAGES = (
    "setup.md", "keys.md", "security.md", "tls.md", "services.md", "power/command.md", "running.md", "daemon.md",
    "console.md", "gpus.md", "money.md", "logs.md", "webhooks.md", "upkeep.md", "connect.md", "reference.md",
    "metrics.md", "limits.md", "engines/comfyui.md", "depot.md", "messages.md", "batches.md", "api-replicate.md",
    "fronts.md",
)  # fmt: skip
DOC = "\n".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)
FLAGS = re.compile(r"--[a-z][a-z-]+")
OF_THE_DEMO = ("--audio", "--boot-seconds", "--video")


@cache
def spoken() -> str:
    """Every text constant of the code and of the catalog, what varies in it replaced by the sign for that."""
    said: list[str] = []
    for folder in ("adapters", "streams", "operators"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    said.append("".join(_piece(value) for value in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    said.append(_without_names(node.value))
    return "\n".join((*said, *map(_without_names, catalog("en").values())))


def _without_names(text: str) -> str:
    return re.sub(r"\{[^{} ]*\}", "…", text)


def _piece(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else "…"


def quoted() -> list[str]:
    """The first column of the last table."""
    table = DOC[DOC.index("# What a message means") :]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def test_the_table_of_what_you_see_is_found() -> None:
    assert len(quoted()) > 25


@pytest.mark.parametrize("sentence", quoted())
def test_quoted_messages_of_the_page_exist_in_the_programs(sentence: str) -> None:
    parts = [part for part in re.split("…|10 s", sentence) if len(part.strip(" ;:()")) > 3]
    assert parts
    for part in parts:
        assert part in spoken(), part


def test_every_flag_that_exists_is_on_the_page_and_every_flag_of_the_page_exists() -> None:
    ours = re.sub(r"^    (docker|systemctl|schtasks|git|\S+ -m pip) .*", _what_it_runs, DOC, flags=re.MULTILINE)
    shown = set(re.findall(rf"(?<![\w-]){FLAGS.pattern}", ours)) - {"--format", "--max-upload-size", "--profile"}
    assert shown - {"--leave"} <= flags_there_are()
    assert flags_there_are() - shown == {"--version", *OF_THE_DEMO}


def cells(heading: str) -> list[list[list[str]]]:
    """The names in each cell of each row of the table that begins with `heading`."""
    table = DOC[DOC.index(heading) :].partition("\n\n")[0]
    return [[re.findall(r"`([^`]+)`", cell) for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]


def test_every_setting_is_in_the_table_with_its_variable_and_its_flag() -> None:
    told: set[tuple[str | None, str]] = set()
    for names, variables, flags, _ in cells("| in `wakestream.toml` |"):
        told |= set(zip(names, variables, strict=True)) if names else {(None, *variables)}
        assert set(flags) <= flags_there_are()
        assert len(flags) in (0, len(variables))
    plain = [one for one in settings._ALL if one not in settings._TIMES]
    assert told == {(None if one.name in settings._SECRET else one.name, one.variable) for one in plain}


NOT_USED = "\N{EN DASH}"
"""In the place of a time: this program has no such wait."""


def test_the_waits_of_the_page_are_those_of_submit_and_of_the_daemon() -> None:
    rows = re.findall(r"^\| `--([a-z-]+)`:[^|]*\| ([^|]+) \| ([^|]+) \|$", DOC, re.MULTILINE)
    fields = {setting: name for name, setting in settings.WAITS.items()}
    policies = (Policy(hub=HUB_PATIENCE), DURABLE)
    for name, *said in rows:
        waits = [getattr(policy, fields[name.replace("-", "_")]) for policy in policies]
        for text, wait in zip(said, waits, strict=True):
            assert text == NOT_USED or _in_seconds(text) == wait, name
    assert {name.replace("-", "_") for name, *_ in rows} == set(settings.WAITS.values())


def _in_seconds(text: str) -> float | None:
    """What the page says: `30 min`, `30 s, then again`, `no limit`."""
    if text == "no limit":
        return None
    number, unit = text.partition(",")[0].split()
    return float(number) * {"s": 1, "min": 60, "h": 3600, "days": 86400}[unit]


@pytest.mark.parametrize("path", ["/api/heygem/health", "/api/heygem/download", AT, f"{AT}0123"])
def test_the_proxies_of_the_page_pass_on_all_that_a_client_asks_a_worker(path: str) -> None:
    (nginx,) = re.findall(r"location ~ (\S+) \{\n +proxy_pass http://127.0.0.1:8383;", DOC)
    assert re.match(nginx, path)
    (caddy,) = re.findall(r"@worker path (.+)", DOC)
    assert any(fnmatchcase(path, pattern) for pattern in caddy.split())


def _what_it_runs(line: re.Match[str]) -> str:
    """The part for our program of a line that configures another one."""
    return line[0].partition(" hub ")[2]


def _all_help(parser: argparse.ArgumentParser) -> str:
    texts = [parser.format_help()]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts += [_all_help(each) for each in action.choices.values()]
    return "\n".join(texts)


@cache
def flags_there_are() -> set[str]:
    return set(FLAGS.findall(_all_help(parser_of())))


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
