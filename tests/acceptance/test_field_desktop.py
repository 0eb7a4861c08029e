"""The deployed desktop client, as tests/support/field plays it, with our worker."""

import asyncio
from pathlib import Path

import pytest

from tests.support.field.desktop import FieldDesktop
from tests.support.programs.our_peers import SECRET, Joining
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.http import progress_socket
from wakestream.adapters.worker.program import running_worker

NO_HUB = "http://127.0.0.1:9"


def files(folder: Path, name: str = "") -> tuple[Path, Path]:
    video, audio = folder / f"video{name}.mp4", folder / f"audio{name}.wav"
    video.write_bytes(b"film" * 500 + name.encode())
    audio.write_bytes(b"sound" * 500 + name.encode())
    return video, audio


async def test_a_deployed_desktop_without_a_hub_brings_a_film_home(tmp_path: Path) -> None:
    video, audio = files(tmp_path)
    async with running_worker(WorkerConfig(tmp_path / "worker", Joining(), SECRET, port=0)) as worker:
        desktop = FieldDesktop(NO_HUB, worker.address, SECRET, license_key="old-license")
        assert await desktop.render(video, audio) == video.read_bytes() + audio.read_bytes()
    assert desktop.went_on_by == "health"


async def test_three_desktops_with_14_jobs_each_get_all_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_socket, "LOOK_EVERY", 0.01)
    async with running_worker(WorkerConfig(tmp_path / "worker", Joining(), SECRET, port=0)) as worker:

        async def office(name: str) -> FieldDesktop:
            desktop = FieldDesktop(NO_HUB, worker.address, SECRET)
            for number in range(14):
                video, audio = files(tmp_path, f"{name}-{number}")
                assert await desktop.render(video, audio) == video.read_bytes() + audio.read_bytes()
            return desktop

        desktops = await asyncio.gather(*map(office, ("one", "two", "three")))
        assert not worker.server.refused
    assert not any(desktop.polled for desktop in desktops)
