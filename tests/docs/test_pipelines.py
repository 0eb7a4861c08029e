"""The code of docs/pipelines.md works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "pipelines.md").read_text()
FILES = dict(re.findall(r"```(?:python|ini)\n# file: (\S+)\n(.*?)```", DOC, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reader's folder with all of it; his tests are strict."""
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    with (tmp_path / "pytest.ini").open("a") as settings:
        settings.write("filterwarnings = error\naddopts = --strict-markers\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_every_block_of_code_is_a_file_that_runs() -> None:
    assert DOC.count("```python") + DOC.count("```ini") == len(FILES) == 9


def test_the_tests_of_the_page_record_their_log_once_and_then_replay_it(folder: Path) -> None:
    quiet = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    first = run(folder, *quiet, "--replay-record=once")
    assert "5 passed" in first.stdout, first.stdout
    assert (folder / "logs" / "night.jsonl").is_file()
    again = run(folder, *quiet)
    assert "5 passed" in again.stdout, again.stdout
    anew = run(folder, *quiet, "--replay-record=rewrite")
    assert "5 passed" in anew.stdout, anew.stdout


def test_the_program_of_the_page_says_what_is_not_set(folder: Path) -> None:
    done = run(folder, "main.py", "a.mp4", "b.wav", "c.mp4")
    assert done.returncode == 2
    assert done.stderr.startswith("wakestream: ")


def test_the_page_names_every_example_and_only_files_that_exist() -> None:
    linked = re.findall(r"\]\(\.\./([^)]+)\)", DOC)
    assert [path for path in linked if not (ROOT / path).is_file()] == []
    named = {path.removeprefix("examples/") for path in linked if path.startswith("examples/")}
    assert named == {path.name for path in (ROOT / "examples").glob("*.py")}
