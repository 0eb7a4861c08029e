"""An engine that has its output open all the time: python holding_engine.py HOLD VIDEO AUDIO OUTPUT

It goes on when there is no file HOLD any more. The result is the two inputs, one after the other.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main(hold: str, video: str, audio: str, output: str) -> None:
    """Writes a half, waits, and writes the other."""
    with Path(output).open("wb") as file:
        file.write(Path(video).read_bytes())
        file.flush()
        sys.stdout.write("50%\n")  # the worker reads it; it starts Python without a buffer
        while Path(hold).exists():
            time.sleep(0.01)
        file.write(Path(audio).read_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
