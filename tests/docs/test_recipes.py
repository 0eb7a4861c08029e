"""The recipes of CONTRIBUTING work, each within one room: they are carried out in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("operators", "streams", "adapters")
STEP = re.compile(r"^# (?:new file: (?P<new>\S+)|(?P<path>\S+), before: (?P<anchor>.+))\n", re.MULTILINE)

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
            assert text.count(f"\n{match['anchor']}") == 1, match["anchor"]
            path.write_text(text.replace(f"\n{match['anchor']}", f"\n{lines}{match['anchor']}"), encoding="utf-8")


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


@pytest.mark.parametrize("kind", USES)
def test_a_recipe_has_at_most_ten_lines_and_changes_one_room(kind: str) -> None:
    recipe = recipes()[kind]
    assert len([line for line in STEP.sub("", recipe).splitlines() if line.strip()]) <= 10
    assert len({tuple((match["new"] or match["path"]).split("/")[:2]) for match, _ in steps(recipe)}) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="the copy needs the links in wakestream/")
@pytest.mark.parametrize("kind", USES)
def test_each_recipe_works(tree: Path, kind: str) -> None:
    run(tree, "-c", f"import wakestream\nassert wakestream.__file__.startswith({str(tree)!r})\n{USES[kind]}")


@pytest.mark.skipif(sys.platform == "win32", reason="the copy needs the links in wakestream/")
def test_the_import_rules_hold_after_all_recipes(tree: Path) -> None:
    run(tree, "-c", "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())")
