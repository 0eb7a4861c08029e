"""examples/engine_tones is an engine that is installed from a wheel of its own, and a real worker works with it."""

import shutil
import wave
from pathlib import Path

import pytest

from tests.support.programs.our_peers import Place, gpu_online
from tests.support.programs.wheels import (
    ROOT,
    command,
    environment_with_plugin,
)
from tests.support.programs.worker_process import worker_process
from wakestream.adapters.client.client import open_client
from wakestream.adapters.config import settings
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy

EXAMPLE = ROOT / "examples" / "engine_tones"

pytestmark = pytest.mark.timeout(180)  # two wheels are built


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with_plugin(EXAMPLE, tmp_path_factory)


def test_the_tests_of_the_example_pass_beside_the_installed_plugin(python: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "test_tones.py", tmp_path)
    assert "2 passed" in command(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)


async def test_a_real_worker_does_a_job_with_the_installed_plugin(python: Path, tmp_path: Path) -> None:
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
        worker = worker_process(tmp_path / "worker", *arguments, python=python)
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
