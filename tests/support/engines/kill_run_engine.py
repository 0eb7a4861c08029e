"""A quick engine for the kill run: `python render.py COUNTS VIDEO AUDIO OUTPUT`. It keeps account of every run.

A line in COUNTS for each start (with whether the result of this work stood already at the worker) and each end. A work
is named by the digest of its two inputs, from which the output is derived too: so a client can check that it is its
own. It stays at work while COUNTS.hold exists. Uses only the standard library.
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


def result(video, audio):
    """Where the worker, whose files these are, keeps what it has rendered of them."""
    name = hashlib.sha256(f"{video.name}|{audio.name}".encode()).hexdigest()[:32]
    return video.parents[1] / "results" / f"{name}.mp4"


def main(counts, video, audio, output):
    video, audio = Path(video), Path(audio)
    picture, sound = video.read_bytes(), audio.read_bytes()
    digest = hashlib.sha256(picture + b"|" + sound)
    work = digest.hexdigest()
    note(counts, "start", work, os.getpid(), "again" if result(video, audio).exists() else "first")
    for percent in (25, 50, 75):
        sys.stdout.write(f"{percent}%\n")
        sys.stdout.flush()
        time.sleep((digest.digest()[0] % 8 + 1) * 0.02 * float(os.environ.get("KILL_RUN_SLOWER", "1")))
    while Path(f"{counts}.hold").exists():
        time.sleep(0.01)
    Path(output).write_bytes(b"rendered " + work.encode() + b" " + picture)
    note(counts, "end", work, os.getpid())


if __name__ == "__main__":
    main(*sys.argv[1:])
