"""An engine whose result is its two inputs, one after the other:

    python engine.py [--seconds S] [--log LOG] [--hold FILE] VIDEO AUDIO OUTPUT

It takes S seconds. LOG gets a line `begin PID` and, at the end, `end PID`. As long as FILE exists, the engine waits,
with half of its output written and the output open.
"""

import argparse
import os
import sys
import time
from pathlib import Path

STEPS = 10


def main(words: argparse.Namespace) -> None:
    """One run."""
    note(words.log, "begin")
    with Path(words.output).open("wb") as file:
        file.write(Path(words.video).read_bytes())
        file.flush()
        for step in range(STEPS):
            sys.stdout.write(f"{100 * step // STEPS}%\n")  # the worker reads it; it starts Python without a buffer
            time.sleep(words.seconds / STEPS)
        while words.hold and Path(words.hold).exists():
            time.sleep(0.01)
        file.write(Path(words.audio).read_bytes())
    note(words.log, "end")


def note(log: str, word: str) -> None:
    """One line, in one write."""
    if log:
        with Path(log).open("ab", buffering=0) as file:
            file.write(f"{word} {os.getpid()}\n".encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--log", default="")
    parser.add_argument("--hold", default="")
    for name in ("video", "audio", "output"):
        parser.add_argument(name)
    main(parser.parse_args())
