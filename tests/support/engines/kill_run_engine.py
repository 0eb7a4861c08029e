"""A quick engine for the kill run: `python render.py COUNTS VIDEO AUDIO OUTPUT`. It keeps account of every run.

A line in COUNTS for each start (with whether the pair's result stood already) and each end; the output is derived from
both inputs, so that a client can check that it is its own. Uses only the standard library.
"""

import hashlib
import os
import sys
import time
from pathlib import Path


def note(counts, *words):
    handle = os.open(counts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(handle, (" ".join(map(str, words)) + "\n").encode())  # one write: lines of several runs do not mix
    os.close(handle)


def main(counts, video, audio, output):
    output = Path(output)
    name = output.name.split(".")[0]
    stood = output.with_name(f"{name}{output.suffix}").exists()
    note(counts, "start", name, os.getpid(), "again" if stood else "first")
    picture, sound = Path(video).read_bytes(), Path(audio).read_bytes()
    digest = hashlib.sha256(picture + b"|" + sound)
    for percent in (25, 50, 75):
        sys.stdout.write(f"{percent}%\n")
        sys.stdout.flush()
        time.sleep((digest.digest()[0] % 8 + 1) * 0.02)
    output.write_bytes(b"rendered " + digest.hexdigest().encode() + b" " + picture)
    note(counts, "end", name, os.getpid())


if __name__ == "__main__":
    main(*sys.argv[1:])
