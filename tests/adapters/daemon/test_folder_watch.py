"""A watched folder: which files become jobs, and when."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support.log_lines import logged
from wakestream.adapters.daemon import folder_watch
from wakestream.adapters.daemon.folder_watch import FolderWatch
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.state import OutboxState


class Box:
    """An outbox without pipelines."""

    def __init__(self) -> None:
        self.state = OutboxState()
        self.jobs: list[tuple[str, str, str]] = []

    async def submit(self, job: f.Submitting) -> f.Answer:
        decision = outbox.DECIDER.step(self.state, job, 1.0)
        answer = next(each for each in decision.commands if isinstance(each, f.Answer))
        if answer.status == 201:
            inputs = [Path(job.asked.inputs[name].path).name for name in ("video", "audio")]
            self.jobs.append((inputs[0], inputs[1], Path(job.asked.outputs["video"]).name))
        return answer


class Scene:
    """A watched folder."""

    def __init__(self, home: Path) -> None:
        self.home, self.folder, self.box = home, home / "in", Box()
        self.folder.mkdir()
        (home / "state").mkdir()
        self.restart()

    def restart(self, *, forgotten: bool = False) -> None:
        """The daemon starts again; `forgotten`: its outbox does not know the old jobs."""
        if forgotten:
            self.box.state = OutboxState()
        self.watch = FolderWatch(self.folder, self.home / "state", cast("Outbox", self.box), probe=False)

    def put(self, *names: str, data: bytes = b"x" * 100) -> None:
        for name in names:
            (self.folder / name).write_bytes(data)

    async def looks(self, count: int = 2) -> list[tuple[str, str, str]]:
        """The jobs so far, after some looks."""
        for _ in range(count):
            await self.watch.look()
        return self.box.jobs


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """See `Scene`."""
    return Scene(tmp_path)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is logged."""
    with logged("INFO") as lines:
        yield lines


async def test_a_pair_starts_when_both_files_have_not_changed_between_two_looks(scene: Scene) -> None:
    scene.put("a.mp4")
    assert await scene.looks() == []
    scene.put("a.wav")
    assert await scene.looks(1) == []
    scene.put("a.wav", data=b"y" * 200)  # it grows
    assert await scene.looks(1) == []
    assert await scene.looks(1) == [("a.mp4", "a.wav", "a.mp4")]
    assert await scene.looks(3) == [("a.mp4", "a.wav", "a.mp4")]


async def test_partial_hidden_and_empty_files_do_not_start(scene: Scene) -> None:
    scene.put(
        "a.mp4",
        "a.wav.part",
        "b.mp4.crdownload",
        "b.wav",
        ".c.mp4",
        "c.wav",
        "d.mp4",
        "d.wav",
        "d.wav.part",
        "~e.mp4",
        "e.wav",
    )
    scene.put("f.mp4", "f.wav~")
    scene.put("g.mp4", "g.wav", data=b"")
    (scene.folder / "h.mp4").mkdir()
    scene.put("h.wav")
    assert await scene.looks(3) == []
    (scene.folder / "a.wav.part").rename(scene.folder / "a.wav")
    (scene.folder / "d.wav.part").unlink()
    assert await scene.looks() == [("a.mp4", "a.wav", "a.mp4"), ("d.mp4", "d.wav", "d.mp4")]


async def test_results_have_free_names_and_are_no_new_files(scene: Scene) -> None:
    scene.put("talk.mp4", "talk_audio.wav", "b.mp4", "b.wav", "b.mp3")
    (scene.folder / "results").mkdir()
    (scene.folder / "results" / "b.mp4").write_bytes(b"of another job")
    found = await scene.looks()
    assert sorted(found) == [
        ("b.mp4", "b.mp3", "b-2.mp4"),
        ("b.mp4", "b.wav", "b-3.mp4"),
        ("talk.mp4", "talk_audio.wav", "talk - talk_audio.mp4"),
    ]
    (scene.folder / "results" / "b-2.mp4").write_bytes(b"done")
    assert len(await scene.looks()) == 3


async def test_a_pair_starts_once_also_after_restarts(scene: Scene) -> None:
    scene.put("a.mp4", "a.wav")
    assert len(await scene.looks()) == 1
    scene.restart()
    assert len(await run_start(scene)) == 1
    scene.restart(forgotten=True)  # the outbox keeps only the last jobs
    assert len(await run_start(scene)) == 1
    scene.put("a.wav", data=b"another voice")
    assert len(await scene.looks()) == 2
    (scene.home / "link").symlink_to(scene.folder)
    scene.folder = scene.home / "link"
    scene.restart(forgotten=True)  # the same folder, written in another way
    assert len(await run_start(scene)) == 2


async def run_start(scene: Scene) -> list[tuple[str, str, str]]:
    """The jobs after a start of the program and some looks."""
    await scene.watch.recall()
    return await scene.looks(3)


async def test_a_folder_that_vanishes_is_named_once_and_watched_again_when_it_returns(
    scene: Scene, said: list[str]
) -> None:
    scene.put("a.mp4", "a.wav")
    await scene.looks(1)
    away = scene.home / "away"
    scene.folder.rename(away)
    assert await scene.looks(3) == []
    assert [line for line in said if "cannot be read" in line] == [
        f"--watch: {scene.folder} cannot be read (No such file or directory); jobs start again when it is back"
    ]
    away.rename(scene.folder)
    assert len(await scene.looks()) == 1
    assert f"--watch: {scene.folder} is back" in said
    shutil.rmtree(scene.folder)
    scene.folder.write_text("a file in its place")
    assert len(await scene.looks()) == 1


async def test_a_thousand_mixed_files_become_their_pairs(scene: Scene) -> None:
    for at in range(250):
        scene.put(f"clip{at}_video.mp4", f"Clip {at:04} audio.wav", f"note {at}.txt", f"alone {at}.mp4")
    found = await scene.looks()
    assert len(found) == 250
    assert len({output for _, _, output in found}) == 250
    assert len(await scene.looks()) == 250


async def test_a_folder_for_results_that_is_away_for_a_moment_loses_no_pair(scene: Scene, said: list[str]) -> None:
    scene.put("a.mp4", "a.wav", "b.mp4", "b.wav")
    (scene.folder / "results").write_text("a file in its place")
    assert await scene.looks(4) == []
    assert len([line for line in said if "do not start yet" in line]) == 1
    (scene.folder / "results").unlink()
    assert len(await scene.looks(1)) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have only names in Unicode")
async def test_a_name_that_is_no_text_hinders_no_others(scene: Scene, said: list[str]) -> None:
    for ending in (b"mp4", b"wav"):
        Path(os.fsdecode(os.fsencode(scene.folder) + b"/caf\xe9." + ending)).write_bytes(b"x")
    scene.put("d.mp4", "d.wav")
    assert await scene.looks(3) == [("d.mp4", "d.wav", "d.mp4")]
    assert len([line for line in said if "rename it" in line]) == 2


async def test_a_full_outbox_takes_the_rest_later(scene: Scene, said: list[str]) -> None:
    scene.put(*(f"{at}.{end}" for at in range(5) for end in ("mp4", "wav")))
    scene.box.state.open_most = 2
    assert len(await scene.looks(3)) == 2
    scene.box.state.open_most = 10
    assert len(await scene.looks(1)) == 5
    assert not [line for line in said if "are no job" in line]


async def test_files_that_are_removed_before_their_start_do_not_hinder_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.put("a.mp4", "a.wav", "b.mp4", "b.wav")
    await scene.looks(1)
    submit = scene.watch._submit

    async def late(job: str, video: Path, audio: Path) -> None:
        if video.name == "a.mp4":
            video.unlink()
        await submit(job, video, audio)

    monkeypatch.setattr(FolderWatch, "_submit", lambda _, *given: late(*given))
    assert await scene.looks() == [("b.mp4", "b.wav", "b.mp4")]
    scene.put("a.mp4")
    monkeypatch.undo()
    assert len(await scene.looks()) == 2


async def test_a_file_that_cannot_be_decoded_is_named_once_and_tried_again_when_it_changes(
    scene: Scene, said: list[str]
) -> None:
    scene.watch.probe = True
    scene.put("a.mp4", "a.wav", data=b"neither")
    assert await scene.looks(4) == []
    assert len([line for line in said if line.startswith("--watch: a.mp4 and a.wav are no job: ")]) == 1
    scene.watch.probe = False
    scene.put("a.mp4", data=b"another")
    assert len(await scene.looks(2)) == 1


async def test_long_names_get_a_result_and_block_no_later_pair(scene: Scene) -> None:
    video, audio = f"a{'画' * 62}.mp4", f"a{'画' * 62}_audio.wav"
    scene.put(video, audio, "b.mp4", "b.wav")
    long, short = sorted(await scene.looks())
    assert (long[:2], short) == ((video, audio), ("b.mp4", "b.wav", "b.mp4"))
    assert len(long[2].encode()) <= 255
    (scene.folder / "results" / long[2]).write_bytes(b"a file can have this name")


async def test_a_path_that_is_too_long_is_delayed_alone(
    scene: Scene, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def output(folder: Path, video: Path, *_: object) -> Path:
        if video.name == "a.mp4":
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        return folder / "b.mp4"

    monkeypatch.setattr(folder_watch, "_output", output)
    (scene.folder / "results").mkdir()
    scene.put("a.mp4", "a.wav", "b.mp4", "b.wav")
    assert await scene.looks() == [("b.mp4", "b.wav", "b.mp4")]
    assert any("a.mp4 and a.wav do not start yet" in line for line in said)
