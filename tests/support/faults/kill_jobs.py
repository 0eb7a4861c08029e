"""The jobs of a kill run: files of their own, and what has to come of each."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from random import Random


@dataclass(eq=False)
class KillJob:
    """One job and what became of it: `acknowledged` by hub or daemon, `ends` its terminal events."""

    id: str
    video: Path
    audio: Path
    output: Path
    acknowledged: bool = False
    ends: list[str] = field(default_factory=list)
    why: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def work(self) -> str:
        """The engine's name of what it makes of the two files."""
        return hashlib.sha256(self.video.read_bytes() + b"|" + self.audio.read_bytes()).hexdigest()

    @property
    def expected(self) -> bytes:
        """What the engine makes of its two files."""
        return b"rendered " + self.work.encode() + b" " + self.video.read_bytes()

    @property
    def right(self) -> bool:
        """Whether its result is there, and is its own."""
        return self.output.is_file() and self.output.read_bytes() == self.expected


class JobMaker:
    """Makes jobs with files of their own; some share a video with one before, a few share both files."""

    def __init__(self, folder: Path, random: Random) -> None:
        self._folder, self._random = folder, random
        self.jobs: list[KillJob] = []
        folder.mkdir(parents=True, exist_ok=True)

    def new(self) -> KillJob:
        """The next job."""
        number, roll = len(self.jobs), self._random.random()
        before = self._random.choice(self.jobs) if self.jobs and roll < 0.3 else None
        video = before.video if before else self._file(f"video-{number}.mp4", self._random.randint(50_000, 600_000))
        audio = before.audio if before and roll < 0.08 else self._file(f"audio-{number}.wav", 20_000)
        job = KillJob(f"kill-{number:04}", video, audio, self._folder / f"out-{number}.mp4")
        self.jobs.append(job)
        return job

    def _file(self, name: str, size: int) -> Path:
        path = self._folder / name
        path.write_bytes(self._random.randbytes(size))
        return path
