"""Models without a model, for a real Cog server. Run by the Python of `make engines`, never imported by the tests."""

import os
import time
from collections.abc import Iterator
from pathlib import Path as FilePath

from cog import BaseModel, BaseRunner, ConcatenateIterator, Path


def wait_for(name: str) -> None:
    """Until the file that this variable names is there; at once without the variable."""
    path = os.environ.get(name)
    while path and not FilePath(path).exists():
        time.sleep(0.02)


def count() -> None:
    """Notes that a run began."""
    with FilePath("began").open("a") as file:
        file.write("x")


class Copy(BaseRunner):
    """Copies a file, with progress."""

    def setup(self) -> None:
        if os.environ.get("SETUP_FAILS"):
            raise RuntimeError("no weights here")
        wait_for("SETUP_ENDS")

    def run(
        self, Image: Path, name: str = "out.png", steps: int = 0, size: int = 0, fail: str = "",  # noqa: N803
        pause: float = 0.0, gate: str = "",
    ) -> Path:  # fmt: skip
        count()
        for step in range(steps):
            print(f"step {step + 1}: {100 * (step + 1) // steps}%", flush=True)  # noqa: T201 - progress is what a model prints
            time.sleep(pause)
        while gate and not FilePath(gate).exists():
            time.sleep(0.02)
        if fail == "crash":
            os._exit(3)
        if fail:
            raise ValueError(fail)
        made = FilePath("made") / name
        made.parent.mkdir(exist_ok=True)
        made.write_bytes(os.urandom(1) * size if size else Image.read_bytes())
        return Path(made)


class Nothing(BaseRunner):
    """Forgets its output."""

    def run(self) -> Path:
        return None


class Many(BaseRunner):
    """Copies an image many times."""

    def run(self, images: list[Path], names: list[str]) -> list[Path]:
        made = []
        for n, name in enumerate(names):
            path = FilePath(f"made-{n}") / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(images[n % len(images)].read_bytes() + bytes([n]) * (2_000_000 if n == 0 else 1))
            made.append(Path(path))
        return made


class Pieces(BaseRunner):
    """Says a text word by word."""

    def run(self, text: str) -> ConcatenateIterator[str]:
        for word in text.split():
            yield word + " "


class Says(BaseRunner):
    """Says a text."""

    def run(self, text: str, seed: int | None = None) -> str:
        count()
        return f"{text} {seed}" if seed is not None else text


class Numbers(BaseRunner):
    """Counts."""

    def run(self, upto: int) -> list[int]:
        return list(range(upto))


class Yields(BaseRunner):
    """Makes a file at a time."""

    def run(self, count: int) -> Iterator[Path]:
        for n in range(count):
            FilePath(f"frame-{n}.bin").write_bytes(bytes([65 + n]) * 100)
            yield Path(f"frame-{n}.bin")


class Said(BaseModel):
    Picture: Path
    words: str
    score: float


class Object(BaseRunner):
    """Makes a file, a text and a number."""

    def run(self, Image: Path) -> Said:  # noqa: N803 - models have such names
        FilePath("pic.png").write_bytes(Image.read_bytes())
        return Said(Picture=Path("pic.png"), words="http://127.0.0.1:1/not-a-file", score=0.5)
