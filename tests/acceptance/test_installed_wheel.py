"""The wheel, as other projects have it: built, installed into environments of its own, and used there.

One of them also has the plugins of examples/, an engine and a power provider, from wheels of their own.
"""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import wave
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.programs.our_peers import Place, gpu_online
from tests.support.programs.wheels import (
    BESIDE,
    PAGES,
    ROOMS,
    ROOT,
    command,
    copy_tree,
    environment_with,
    sdist_of,
    wheel_of,
)  # fmt: skip
from tests.support.programs.worker_process import worker_process
from wakestream.adapters.client.client import open_client
from wakestream.adapters.config import settings
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy

pytestmark = pytest.mark.timeout(240)  # wheels are built

ENGINE, POWER = ROOT / "examples" / "engine_tones", ROOT / "examples" / "power_shelly"

PIPELINE = """
from wakestream import Done, Events, Stages, of, pipeline, then

@pipeline
def until_ready(stages: Stages) -> Events:
    return stages.submit().pipe(then(stages.online, lambda _: of(Done(stages.job.output, 0))))
"""

TESTS = """
import asyncio
import sys
from pathlib import Path
import pytest
import wakestream.streams
from pipeline import until_ready
from wakestream.adapters.telemetry.recordings import write
from wakestream.adapters.testing.harness import PipelineHarness
from wakestream.operators import Done

async def record(folder):
    rehearsal = PipelineHarness()
    await rehearsal.run(until_ready)
    write(rehearsal.log, folder / "log.jsonl")

@pytest.mark.replay("ready.jsonl", build=until_ready, record=record)
def test_my_pipeline_still_does_what_it_did(replay):
    assert isinstance(replay.outcome(), Done)

@pytest.mark.replay("offline.jsonl")
async def test_a_recorded_night(replay):
    assert isinstance(replay.outcome(), Done)
    await asyncio.sleep(86400)

def test_it_is_the_installed_one():
    assert Path(wakestream.streams.__file__).is_relative_to(sys.prefix)
"""


TYPED = """
from wakestream import Done, Events, Stages, nothing, pipeline, run_job, then

@pipeline
def told(stages: Stages) -> Events:
    def tell(done: Done) -> Events:
        return stages.effect("tell", {}, lambda: bytes_of(done)).map(lambda _: done)

    return stages.standard().pipe(then(tell))

async def bytes_of(done: Done) -> str:
    return done.size

raise SystemExit(run_job(told))
"""
"""Typed through and through, with two mistakes."""

MISTAKES = ('Module "wakestream" has no attribute "nothing"', 'got "int", expected "str"')


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, so that nothing of earlier builds gets in."""
    source = copy_tree(tmp_path_factory.mktemp("source"))
    (source / "deploy" / "worker.key").write_text("what a user keeps there")
    return source


@pytest.fixture(scope="module")
def packed(source: Path) -> Path:
    """The sdist."""
    return sdist_of(source)


@pytest.fixture(scope="module")
def wheel(source: Path, packed: Path) -> Path:
    """Built from the sdist, so that nothing is missing there."""
    return wheel_of(packed, source / "dist")


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and what it depends on from the environment of these tests."""
    return environment_with(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def with_plugins(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `python`, with the plugins."""
    folder = tmp_path_factory.mktemp("plugins")
    for example in (ENGINE, POWER):
        shutil.copytree(example, folder / example.name, ignore=shutil.ignore_patterns("__pycache__"))
        wheel_of(folder / example.name, folder)
    return environment_with(tmp_path_factory.mktemp("environment"), wheel, *folder.glob("*.whl"))


@pytest.fixture(scope="module")
def editing(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `python`, with the tree itself after `pip install -e`."""
    return environment_with(tmp_path_factory.mktemp("editing"), "--no-build-isolation", "-e", source)


def listed(wheel: Path) -> Sequence[str]:
    with ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_every_module_and_is_typed(wheel: Path) -> None:
    names = set(listed(wheel))
    modules = {
        f"wakestream/{path.relative_to(ROOT).as_posix()}" for room in ROOMS for path in (ROOT / room).rglob("*.py")
    }
    catalogs = {f"wakestream/adapters/cli/i18n/{name}.json" for name in ("en", "zh", "help_zh", "reasons_zh")}
    assert modules | catalogs <= names
    assert {"wakestream/__init__.py", "wakestream/py.typed"} <= names
    assert [name for name in names if not name.startswith(("wakestream/", "wakestream-"))] == []


def test_the_installed_command_has_its_texts_in_each_language(python: Path, tmp_path: Path) -> None:
    for language, usage in (("en", "usage"), ("zh", "用法")):
        shown = command(python, "-m", "wakestream.adapters.cli", "--lang", language, "help", "jobs", cwd=tmp_path)
        assert shown.startswith(usage)


def test_the_sdist_holds_docs_examples_deployment_and_changelog_and_no_secret(packed: Path) -> None:
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = [path.relative_to(ROOT) for room in BESIDE for path in (ROOT / room).rglob("*.*") if path.is_file()]
    ours = {path.as_posix() for path in files if path.parent.name not in ("deploy", "__pycache__")}
    wanted = {
        *PAGES,
        "LICENSE",
        "constraints.txt",
        "constraints-hashes.txt",
        "deploy/Dockerfile",
        "deploy/compose.yaml",
        *ours,
    }
    assert {"docs/setup.md", "examples/batch.py", "deploy/systemd/wakestream-hub.service", *wanted} <= names
    assert [name for name in names if name.endswith((".key", ".pyc")) or name.startswith("build")] == []


def test_every_link_of_the_index_page_is_an_absolute_one_to_a_file_of_the_repository(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (found,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        told = email.message_from_bytes(archive.read(found))
    home = dict(line.split(", ") for line in told.get_all("Project-URL", ()))["Source"]
    assert home.startswith("https://")
    assert told["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)\s]+)\)", str(told.get_payload()))
    assert len(links) == len(re.findall(r"\]\([^)\s]+\)", (ROOT / "README.md").read_text("utf-8"))) >= 9
    ours = [link for link in links if link.startswith(f"{home}/")]
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert len(ours) >= 8
    for link in ours:
        kind, head, path = link.removeprefix(f"{home}/").partition("#")[0].split("/", 2)
        assert (kind, head) == ("raw" if path.endswith(".svg") else "blob", "HEAD")
        assert (ROOT / path).exists(), link


def test_the_wheel_offers_the_command_and_the_pytest_plugin(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (found,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        offered = archive.read(found).decode()
    assert "[console_scripts]\nwakestream = wakestream.adapters.cli.main:main" in offered
    assert "[pytest11]\nwakestream = wakestream.adapters.testing.pytest_plugin" in offered


def test_a_project_that_only_has_the_wheel_records_and_replays_in_its_tests(python: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
        "addopts = --strict-markers --strict-config\n"
    )
    shutil.copy(ROOT / "tests" / "logs" / "offline.jsonl", tmp_path)
    run = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "3 passed" in command(*run, "--replay-record=once", cwd=tmp_path)
    assert (tmp_path / "ready.jsonl").is_file()
    assert "3 passed" in command(*run, cwd=tmp_path)


@pytest.mark.parametrize("how", ["python", "editing"])
def test_type_checkers_find_each_kind_of_install(how: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(TYPED)
    there = request.getfixturevalue(how)
    check = (sys.executable, "-m", "mypy", "--strict", "--python-executable", str(there), "told.py")
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, timeout=55, check=False)
    assert all(mistake in done.stdout for mistake in MISTAKES), done.stdout
    assert "Found 2 errors in 1 file" in done.stdout


def test_an_editable_install_runs_the_tree_and_makes_no_other_name_importable(editing: Path, source: Path) -> None:
    names = ("operators", "streams", "adapters", "deploy")
    code = (
        "import importlib.util as u, wakestream, wakestream.adapters.cli.main as m\n"
        f"print(m.__file__, wakestream.__version__, [n for n in {names} if u.find_spec(n)])"
    )
    file, version, *found = command(editing, "-c", code, cwd=editing.parent).split()
    assert Path(file).resolve() == source / "adapters" / "cli" / "main.py"
    assert (version[0].isdigit(), found) == (True, ["[]"])


def test_the_tests_of_the_engine_pass_beside_the_installed_plugin(with_plugins: Path, tmp_path: Path) -> None:
    shutil.copy(ENGINE / "test_tones.py", tmp_path)
    assert "2 passed" in command(with_plugins, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)


async def test_a_real_worker_does_a_job_with_the_installed_plugin(with_plugins: Path, tmp_path: Path) -> None:
    place, key, text = Place(tmp_path), tmp_path / "worker.key", tmp_path / "hello.txt"
    key.write_text(place.keys["worker"])
    text.write_text("hello 世界", encoding="utf-8")
    wrong = tmp_path / "latin.txt"
    wrong.write_bytes("é".encode("latin-1"))
    sound = tmp_path / "hello.wav"
    events: list[e.JobEvent] = []
    async with place.hub() as hub:
        arguments = ("--hub", place.hub_url, "--key-file", str(key), "--gpu", "gpu", "--engine", "tones")
        found = settings.load({}, environment=place.client_settings(), folder=tmp_path)
        worker = worker_process(tmp_path / "worker", *arguments, python=with_plugins)
        async with worker, open_client(found, Policy(hub=10.0, poll_every=0.01)) as client:
            await gpu_online(hub)
            done = await client.run(e.Job("a", {"text": text}, {"audio": sound}, "tones", {"speed": 20}), events.append)
            failed = await client.run(
                e.Job("b", {"text": wrong}, {"audio": tmp_path / "b.wav"}, "tones"), events.append
            )
    assert isinstance(done, e.Done)
    with wave.open(str(sound)) as tones:
        assert tones.getnframes() == len("hello 世界") * 8000 // 20
    assert isinstance(failed, e.Failed)
    assert "the text file is not UTF-8" in failed.why


def test_the_installed_provider_is_found_by_its_name(with_plugins: Path, tmp_path: Path) -> None:
    code = (
        "from wakestream.adapters.power import config; import wakestream_shelly;"
        "made = config.make_power('shelly', config.PowerConfig('0'));"
        "print(type(made).__module__, wakestream_shelly.__file__, *config.installed())"
    )
    module, file, *names = command(with_plugins, "-c", code, cwd=tmp_path).split()
    assert module == "wakestream_shelly"
    assert Path(file).is_relative_to(with_plugins.parents[1])
    assert {"shelly", "runpod", "compshare", "vast", "autodl", "command", "process"} <= set(names)


def test_the_test_of_the_provider_runs_the_shipped_cases(with_plugins: Path, tmp_path: Path) -> None:
    for name in ("test_shelly.py", "pyproject.toml"):
        shutil.copy(POWER / name, tmp_path)
    said = command(with_plugins, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shelly.py", cwd=tmp_path)
    passed = int(said.rpartition(" passed")[0].split()[-1])
    assert passed >= 35, said
