"""The recipes of CONTRIBUTING work: they are carried out in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.streams.log_library import LOGS, NAMES

ROOT = Path(__file__).parents[2]
FLOORS = ("operators", "streams", "adapters")
STEP = re.compile(
    r"^# (?:new file: (?P<new>\S+)|(?P<path>\S+), (?P<how>before|instead of): (?P<anchor>.+))\n", re.MULTILINE
)

USES = {
    "operator": """
import reactivex
from wakestream.operators.rx.pairs import pairs
seen = []
reactivex.of(1, 2, 3).pipe(pairs).subscribe(seen.append)
assert seen == [(1, 2), (2, 3)]
""",
    "power provider": """
import asyncio
from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.power.config import make_power
from wakestream.adapters.power.config import PowerConfig
flags = ["monitor", "--power", "wakestream.adapters.power.always_on:create"]
power = make_power(parser_of(("monitor",)).parse_args(flags).power, PowerConfig())
assert asyncio.run(power.inspect()).state == "running"
""",
    "engine": """
from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.engines.config import make_engine
from wakestream.adapters.engines.config import EngineConfig
flags = ["worker", "--state", "s", "--engine", "wakestream.adapters.engines.lips:create"]
assert make_engine(parser_of(("worker",)).parse_args(flags).engine, EngineConfig()).programs["lipsync"]
""",
    "command": """
from wakestream.adapters.cli.main import main
assert main(["hello"]) == 0
""",
    "message": """
from wakestream.streams.protocol import messages as m, wire
sent = m.TaskProgress(task_id="t", percent=5)
assert wire.decode(wire.encode(sent)) == sent
""",
    "stage": f"""
from contextlib import redirect_stdout
from io import StringIO
from wakestream.adapters.cli.i18n import choose
from wakestream.adapters.cli.main import main
from wakestream.adapters.cli.render.job_text import event
from wakestream.operators.model.events import Announced
with redirect_stdout(StringIO()) as said:
    assert main(["replay", {str(LOGS / "online.jsonl")!r}, "--speed", "1000"]) == 0
assert said.getvalue().split().count("announced") == 1
assert main(["replay", *{[str(LOGS / name) for name in NAMES]!r}]) == 0
for language, text in (("en", "results: 3"), ("zh", "结果共 3 个")):
    choose(language)
    assert event(Announced(None, 3)) == text
""",
}


def recipes() -> dict[str, str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\*\*A new ([\w ]+)\*\*.*?^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def steps(recipe: str) -> list[tuple[re.Match[str], str]]:
    found = list(STEP.finditer(recipe))
    ends = [match.start() for match in found[1:]] + [len(recipe)]
    return [(match, recipe[match.end() : end]) for match, end in zip(found, ends, strict=True)]


def carry_out(recipe: str, tree: Path) -> None:
    for match, lines in steps(recipe):
        if match["new"]:
            assert not (tree / match["new"]).exists()
            (tree / match["new"]).write_text(lines, encoding="utf-8")
        else:
            path = tree / match["path"]
            text = path.read_text(encoding="utf-8")
            (found,) = re.finditer(rf"^{re.escape(match['anchor'])}.*\n", text, re.MULTILINE)
            rest = found.start() if match["how"] == "before" else found.end()
            path.write_text(text[: found.start()] + lines + text[rest:], encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which all recipes were carried out."""
    folder = tmp_path_factory.mktemp("tree")
    for name in (*FLOORS, "wakestream"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for recipe in recipes().values():
        carry_out(recipe, folder)
    return folder


def run(tree: Path, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_recipe_for_each_kind_of_addition() -> None:
    assert recipes().keys() == USES.keys()


@pytest.mark.parametrize("kind", [kind for kind in USES if kind != "stage"])
def test_a_recipe_has_at_most_ten_lines_and_changes_one_room(kind: str) -> None:
    recipe = recipes()[kind]
    assert len([line for line in STEP.sub("", recipe).splitlines() if line.strip()]) <= 10
    assert len({tuple((match["new"] or match["path"]).split("/")[:2]) for match, _ in steps(recipe)}) == 1


def test_a_stage_with_its_event_and_its_texts_changes_six_files() -> None:
    assert len({match["new"] or match["path"] for match, _ in steps(recipes()["stage"])}) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="the copy needs the links in wakestream/")
@pytest.mark.parametrize("kind", USES)
def test_each_recipe_works(tree: Path, kind: str) -> None:
    run(tree, "-c", f"import wakestream\nassert wakestream.__file__.startswith({str(tree)!r})\n{USES[kind]}")


@pytest.mark.skipif(sys.platform == "win32", reason="the copy needs the links in wakestream/")
def test_the_import_rules_hold_after_all_recipes(tree: Path) -> None:
    run(tree, "-c", "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())")
