"""Does as a page of docs/ says: its commands, one after the other, with the output that it shows."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
SHELL = shutil.which("sh") or "sh"
WITHIN = 100.0
"""Seconds that a program of the page has to show what the page says."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its language, what follows the language (the name of a program that goes on running), its text."""

    kind: str
    name: str
    text: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page of docs/, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [Block(*each) for each in re.findall(r"^```(\w+) ?(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def pattern(line: str) -> re.Pattern[str]:
    """A line of shown output; spaces are only about columns, and … is whatever it is."""
    words = (r"\s+".join(map(re.escape, part.split())) for part in line.split("…"))
    return re.compile(r"\s*.*?\s*".join(words))


class Reader:
    """Does as the page says, from a clone's folder on, with free ports in place of the page's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in ("8765", "8383", "8394", "5000", "7860")}
        self.said = ""
        self.running: list[subprocess.Popen[str]] = []
        self.exports: dict[str, str] = {}
        self.lines: SimpleQueue[str] = SimpleQueue()

    def at_ports(self, text: str) -> str:
        for port, free in self.ports.items():
            text = re.sub(rf"(?<=[:=]){port}\b", str(free), text)
        return text

    def follow(self, block: Block) -> None:
        """Do what the block says."""
        if block.text.startswith("# file: "):
            first, _, code = block.text.partition("\n")
            (self.folder / first.removeprefix("# file: ")).write_text(self.at_ports(code), encoding="utf-8")
        elif block.kind == "text":
            self.expect(self.at_ports(block.text))
        elif block.name:
            self.start(self.at_ports(block.text))
        else:
            self.run(self.at_ports(block.text))

    def run(self, commands: str) -> None:
        self.exports |= dict(re.findall(r"^export (\w+)=(.*)$", commands, re.MULTILINE))
        done = subprocess.run(
            [SHELL, "-e", "-c", commands], cwd=self.folder, env=self.environment(), timeout=WITHIN,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        self.said = done.stdout
        assert done.returncode == 0, f"{commands}\n{self.said}"
        for folder in re.findall(r"^cd (\S+)$", commands, re.MULTILINE):
            self.folder = self.folder / folder

    def start(self, command: str) -> None:
        """A program that goes on; what it says is read until the next block has been seen in it."""
        program = subprocess.Popen(
            [SHELL, "-c", f"exec {command}"], cwd=self.folder, env=self.environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.running.append(program)
        self.said, self.lines = "", SimpleQueue()
        threading.Thread(target=_read, args=(program, self.lines)).start()

    def expect(self, text: str) -> None:
        wanted = [pattern(line) for line in text.splitlines()]
        if not self.said:
            self._hear(wanted[-1])
        place = 0
        for line in wanted:
            found = line.search(self.said, place)
            assert found is not None, f"{line.pattern!r} is not in\n{self.said}"
            place = found.end()

    def _hear(self, last: re.Pattern[str]) -> None:
        while not last.search(self.said) and (line := self.lines.get(timeout=WITHIN)):
            self.said += line

    def environment(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("WAKESTREAM", "PYTEST"))}
        for name in ("API_SERVER_URL", "HEYGEM_API_SECRET", "HEYGEM_SERVER_URL", "XDG_DATA_HOME", "COLUMNS"):
            mine.pop(name, None)
        path = f"{Path(sys.executable).parent}{os.pathsep}{mine.get('PATH', '')}"
        return {
            **mine,
            "PATH": path,
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **self.exports,
        }

    def leave(self) -> None:
        for program in reversed(self.running):
            program.send_signal(signal.SIGINT)
        try:
            for program in self.running:
                program.wait(timeout=WITHIN)
        finally:
            for program in self.running:  # also those behind one that did not end
                program.kill()
                program.wait()


def _read(program: subprocess.Popen[str], lines: SimpleQueue[str]) -> None:
    """All that the program says, to its end, for which there is an empty line."""
    assert program.stdout is not None
    with program.stdout as stream:
        for line in stream:
            lines.put(line)
    lines.put("")


def sample(folder: Path) -> None:
    """The two videos that the demo leaves, in little."""
    from imageio_ffmpeg import get_ffmpeg_exe

    with wave.open(str(folder / "tone.wav"), "wb") as tone:
        tone.setparams((1, 2, 8000, 0, "NONE", ""))
        tone.writeframes(bytes(8000))
    for name, color in (("wakestream-demo.mp4", "teal"), ("wakestream-demo-2.mp4", "olive")):
        picture = ("-f", "lavfi", "-i", f"color={color}:size=64x64:rate=10:duration=1")
        made = (get_ffmpeg_exe(), "-v", "error", *picture, "-i", "tone.wav", "-shortest", name)
        subprocess.run(made, cwd=folder, check=True)


@contextmanager
def reader_of_a_clone(folder: Path) -> Iterator[Reader]:
    """A reader in the folder of a clone, who has seen the demo."""
    clone = folder / "wakestream"
    clone.mkdir()
    # The repository's own tests need more than a reader has installed: his must not be taken for some of them.
    (clone / "pyproject.toml").write_text('[tool.pytest.ini_options]\nminversion = "999"\n', encoding="utf-8")
    sample(clone)
    reader = Reader(clone)
    try:
        yield reader
    finally:
        reader.leave()
