"""The code of the pages is typed: strict mypy and pyright find nothing, in a reader's own folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/pipelines.md", "docs/tutorial.md", "docs/design.md")


def written(page: str, folder: Path) -> Path:
    """A folder with the page's Python files."""
    text = (ROOT / page).read_text(encoding="utf-8")
    code = re.findall(r"^```python\n# file: (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert code
    for name, block in code:
        (folder / name).write_text(block, encoding="utf-8")
    return folder


def checked(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """The command; the packages are read once."""
    cache = tmp_path_factory.getbasetemp() / "mypy-of-the-docs"
    return (sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, "--config-file=")


@pytest.mark.parametrize("page", PAGES)
def test_strict_mypy_finds_nothing_in_the_code_of_the_page(
    page: str, tmp_path: Path, mypy: tuple[str | Path, ...]
) -> None:
    done = checked(written(page, tmp_path), *mypy, ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_type_checker_knows_the_public_names(tmp_path: Path, mypy: tuple[str | Path, ...]) -> None:
    (tmp_path / "sample.py").write_text(
        "from wakestream.operators import Backoff, Job, Policy, from_async, then\n"
        "from wakestream.streams import World, guarded, job_pipeline, stage_times\n"
        "reveal_type(Policy().online)\nreveal_type(job_pipeline)\nPolicy(onlin=1)\n"
    )
    said = checked(tmp_path, *mypy, "sample.py").stdout
    assert 'Revealed type is "float"' in said.replace("builtins.", "")
    assert "events.Job" in said
    assert 'Unexpected keyword argument "onlin"' in said
    assert said.count("error:") == 1, said


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="pyright needs node")


@needs_node
@pytest.mark.parametrize("page", PAGES)
def test_pyright_finds_nothing_in_the_code_of_the_page(page: str, tmp_path: Path) -> None:
    folder = written(page, tmp_path)
    assert "0 errors, 0 warnings" in pyright(folder)


@needs_node
def test_pyright_finds_nothing_in_the_examples(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path, dirs_exist_ok=True)
    assert "0 errors, 0 warnings" in pyright(tmp_path)


def pyright(folder: Path) -> str:
    return checked(folder, sys.executable, "-m", "pyright", "--pythonpath", sys.executable, ".").stdout
