"""An engine that notes each of its runs: python counting_engine.py LOG SECONDS VIDEO AUDIO OUTPUT

LOG gets a line `begin PID` and, when it comes to that, `end PID`. The result is the two inputs, one after the other. It
does not come to its end while there is a file LOG.hold.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

STEPS = 10


def main(log: str, seconds: float, video: str, audio: str, output: str) -> None:
    """Takes so many seconds, and says how far it is."""
    note(log, "begin")
    for step in range(STEPS):
        sys.stdout.write(f"{100 * step // STEPS}%\n")  # the worker reads it; it starts Python without a buffer
        time.sleep(seconds / STEPS)
    while Path(log + ".hold").exists():
        time.sleep(0.01)
    Path(output).write_bytes(Path(video).read_bytes() + Path(audio).read_bytes())
    note(log, "end")


def note(log: str, word: str) -> None:
    """One line, in one write."""
    with Path(log).open("ab", buffering=0) as file:
        file.write(f"{word} {os.getpid()}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:])
