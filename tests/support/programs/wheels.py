"""Wheels of this tree, as other projects have them: built, and installed into environments of their own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROOMS = ("operators", "streams", "adapters")
BESIDE = ("deploy", "docs", "examples")
PAGES = ("README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md")
FILES = ("pyproject.toml", "MANIFEST.in", "LICENSE", "constraints.txt", "constraints-hashes.txt", "Makefile", *PAGES)


def command(*arguments: str | Path, cwd: Path) -> str:
    """Run a program that does not see this project's environment; returns its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        [str(each) for each in arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_tree(source: Path) -> Path:
    """Copy the tree, so that nothing of earlier builds gets in."""
    for folder in (*ROOMS, "wakestream", *BESIDE):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, source)
    return source


def sdist_of(source: Path) -> Path:
    """Build the sdist of a copy of the tree."""
    code = "import sys; sys.path.insert(0, 'deploy'); from build_backend import build_sdist; build_sdist('dist')"
    command(sys.executable, "-c", code, cwd=source)
    (packed,) = (source / "dist").glob("wakestream-*.tar.gz")
    return packed


def wheel_of(project: Path, folder: Path) -> Path:
    """Build the wheel of a project or an sdist into `folder`, without the network."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    before = set(folder.glob("*.whl"))
    command(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, project, cwd=project.parent)
    (built,) = set(folder.glob("*.whl")) - before
    return built


def environment_with(place: Path, *what: str | Path) -> Path:
    """The interpreter of an environment of its own, which has what is installed in that of the tests too."""
    venv.create(place, with_pip=False, symlinks=os.name != "nt")
    scheme = {"base": str(place), "platbase": str(place), "installed_base": str(place)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    (packages / "of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files do not count
    there = Path(sysconfig.get_path("scripts", "venv", vars=scheme)) / ("python.exe" if os.name == "nt" else "python")
    options = (
        "--quiet", "--no-deps", "--no-index", "--no-compile", "--no-warn-script-location", "--disable-pip-version-check"
    )  # fmt: skip
    command(sys.executable, "-m", "pip", "--python", there, "install", *options, *what, cwd=place)
    return there
