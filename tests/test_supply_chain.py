"""What is installed is what was tested: exact versions, their hashes, and no place that they come from."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
HASHED = ROOT / "constraints-hashes.txt"
AUDIT = ROOT / "deploy" / "audit_dependencies.py"


def pinned(text: str) -> dict[str, str]:
    return {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s\\]+)", text, re.MULTILINE)
    }


def needed() -> set[str]:
    """All that an installation has, and what builds it."""
    todo = [*tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"], "setuptools"]
    found: set[str] = set()
    while todo:
        wanted = Requirement(todo.pop())
        if canonicalize_name(wanted.name) in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found.add(canonicalize_name(wanted.name))
        todo += importlib.metadata.requires(wanted.name) or []
    return found


def test_the_file_with_hashes_is_in_step_with_the_versions_and_has_all_that_is_installed() -> None:
    versions, hashed = pinned((ROOT / "constraints.txt").read_text()), pinned(HASHED.read_text())
    assert {name: versions.get(name) for name in hashed} == hashed, "run `make hashes`"
    assert needed() <= hashed.keys(), "run `make hashes`"


def test_every_version_has_hashes_and_nothing_else() -> None:
    text = HASHED.read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines)
    blocks = re.split(r"^(?=[\w.-]+==)", "\n".join(lines), flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pinned(text)) > 20
    assert all("--hash=sha256:" in block for block in blocks)


def audited(tmp_path: Path, says: str) -> subprocess.CompletedProcess[str]:
    """The audit with another program in place of pip-audit."""
    (tmp_path / "pip_audit.py").write_text(f"import sys\n{says}\n")
    return subprocess.run(
        [sys.executable, str(AUDIT)], capture_output=True, text=True, timeout=30, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip


def answer(*dependencies: dict[str, object], code: int = 0) -> str:
    return f"print({json.dumps({'dependencies': list(dependencies), 'fixes': []})!r}); sys.exit({code})"


CLEAN: dict[str, object] = {"name": "rich", "version": "15.0.0", "vulns": []}
UNKNOWN: dict[str, object] = {"name": "loguru", "skip_reason": "not found there"}
BAD: dict[str, object] = {
    "name": "aiohttp", "version": "3.0.0", "vulns": [{"id": "ADV-1", "fix_versions": ["3.0.1"], "description": "long"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        (answer(CLEAN), 0, "no known advisory for 1 package"),
        (answer(CLEAN, UNKNOWN), 0, "not in the database: loguru"),
        (answer(CLEAN, BAD, code=1), 1, "aiohttp 3.0.0: ADV-1; fixed in 3.0.1"),
        (answer(UNKNOWN), 0, "skipped: the database of advisories cannot be reached from here (not found there)"),
        ("print('no route to it', file=sys.stderr); sys.exit(1)", 0, "cannot be reached from here (no route to it)"),
        ("print('half a {'); sys.exit(1)", 0, "skipped: "),
    ],
)
def test_an_audit_fails_for_an_advisory_or_is_skipped(tmp_path: Path, says: str, code: int, words: str) -> None:
    ran = audited(tmp_path, says)
    assert (ran.returncode, words in ran.stdout) == (code, True), ran


def test_an_audit_without_its_program_prints_how_to_install_it(tmp_path: Path) -> None:
    ran = audited(tmp_path, "raise ModuleNotFoundError(\"No module named 'pip_audit'\")")
    assert (ran.returncode, "skipped: " in ran.stdout) == (0, True)
