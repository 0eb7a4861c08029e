"""An engine whose result is its two inputs, one after the other: python engine.py SECONDS VIDEO AUDIO OUTPUT"""

from __future__ import annotations

import sys
import time
from pathlib import Path

STEPS = 10


def main(seconds: float, video: str, audio: str, output: str) -> None:
    """Takes so many seconds, and says how far it is."""
    for step in range(STEPS):
        sys.stdout.write(f"{100 * step // STEPS}%\n")  # the worker reads it; it starts Python without a buffer
        time.sleep(seconds / STEPS)
    Path(output).write_bytes(Path(video).read_bytes() + Path(audio).read_bytes())


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
