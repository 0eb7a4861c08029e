"""A wheel as users install it, with pip, pipx and uv, from the index that is configured here: it works and is small."""

import os
import re
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.programs.wheels import ROOT, copy_tree

MOST = 90_000_000
"""Bytes that a PC client takes on disk, without pip and setuptools."""

NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")

pytestmark = [pytest.mark.timeout(600), pytest.mark.skipif(sys.platform == "win32", reason="other paths there")]


def ran(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command without the environment of these tests."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "WAKESTREAM"))
    }
    return subprocess.run(
        [str(each) for each in command],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=kept | environment,
    )


def installed(done: subprocess.CompletedProcess[str]) -> None:
    """Skips the test where no index can be reached."""
    if done.returncode and re.search(r"No matching distribution|onnection|resolve|timed out|not found", done.stderr):
        pytest.skip(f"no index from which it could be installed: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, built = copy_tree(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("built")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", built)
    done = ran(sys.executable, "-m", "pip", "wheel", *options, source)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(built.glob("*.whl"))


def environment(place: Path) -> Path:
    """An empty environment; returns its interpreter."""
    venv.create(place, with_pip=True)
    return place / "bin" / "python"


def size_of(packages: Path) -> dict[str, int]:
    """Bytes of each package, without those that come with an environment."""
    found: dict[str, int] = {}
    for path in packages.rglob("*"):
        top = path.relative_to(packages).parts[0]
        if path.is_file() and re.split(r"[-.]", top)[0] not in NOT_OURS:
            found[top] = found.get(top, 0) + path.stat().st_size
    return found


def works(command: Path, folder: Path) -> None:
    """The command shows its version and its help, and says which extra brings ffmpeg."""
    nothing = {"PATH": str(command.parent), "WAKESTREAM_CONFIG": os.devnull, "LC_ALL": "C.UTF-8"}
    assert ran(command, "--version", **nothing).stdout == f"wakestream {version('wakestream')}\n"
    bare = ran(command, **nothing)
    assert "usage: wakestream" in bare.stdout + bare.stderr
    demo = ran(command, "demo", "-o", folder / "demo.mp4", **nothing)
    assert demo.returncode == 1
    assert 'ffmpeg is missing; run pip install "wakestream[demo]"' in demo.stderr


def test_with_pip_a_client_has_no_ffmpeg_and_is_small(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "pip")
    installed(ran(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel))
    works(python.parent / "wakestream", tmp_path)
    (packages,) = (tmp_path / "pip" / "lib").glob("python*/site-packages")
    sizes = size_of(packages)
    largest: Sequence[tuple[str, int]] = sorted(sizes.items(), key=lambda each: -each[1])[:8]
    assert "imageio_ffmpeg" not in sizes
    assert sum(sizes.values()) <= MOST, (sum(sizes.values()), largest)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with pipx and uv."""
    python = environment(tmp_path_factory.mktemp("tools"))
    installed(ran(python, "-m", "pip", "install", "--quiet", "--no-compile", "pipx", "uv"))
    return python


def test_with_pipx(wheel: Path, tools: Path, tmp_path: Path) -> None:
    folders: Mapping[str, str] = {
        "PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin"), "USE_EMOJI": "false",
        "PIPX_MAN_DIR": str(tmp_path / "man"), "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
    }  # fmt: skip
    installed(ran(tools, "-m", "pipx", "install", "--pip-args=--no-compile", wheel, **folders))
    works(tmp_path / "bin" / "wakestream", tmp_path)


def test_with_uv(wheel: Path, tools: Path, tmp_path: Path) -> None:
    folders = {"UV_TOOL_DIR": str(tmp_path / "home"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    index = {name: os.environ[name] for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX") if name in os.environ}
    if (
        not index
        and (configured := ran(sys.executable, "-m", "pip", "config", "get", "global.index-url")).returncode == 0
    ):
        index = {"UV_DEFAULT_INDEX": configured.stdout.strip()}
    command = (tools.parent / "uv", "tool", "install", "--python", sys.executable, "--cache-dir", tmp_path / "cache")
    installed(ran(*command, "-c", ROOT / "constraints.txt", wheel, **folders, **index))
    works(tmp_path / "bin" / "wakestream", tmp_path)
