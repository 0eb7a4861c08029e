"""A program for the engine `command`: `python tool.py MODE INPUT OUTPUT [WORDS]`. Uses only the standard library.

What programs on GPU machines were seen to do: they print without end, or nothing; they ignore SIGTERM; they have
children; they are killed when memory is short. The process ids of a run are in INPUT's folder in `pids`.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def echo(source: Path, target: Path, *words: str) -> None:
    target.write_text(json.dumps([sys.argv[2], sys.argv[3], *words]))


def where(source: Path, target: Path) -> None:
    target.write_text(str(Path.cwd()))


def reverse(source: Path, target: Path) -> None:
    for step in range(1, 5):
        say(f"step {step}/4")
    say("done, 4 steps")
    target.write_bytes(source.read_bytes()[::-1])


def as_json(source: Path, target: Path) -> None:
    if source.read_bytes() == b"no face":
        say('{"error": "there is no face in it", "field": "inputs.file"}')
        hangs(source, target)
    say('{"frame": 1, "frames": 2}')
    say('{"log": "half of it"}')
    target.write_bytes(source.read_bytes())


def large(source: Path, target: Path) -> None:
    with target.open("wb") as file:
        for _ in range(96):
            file.write(os.urandom(1024) * 1024)


def flood(source: Path, target: Path) -> None:
    for number in range(60_000):
        sys.stdout.write(f"line {number} {'x' * 60}\n")
    target.write_bytes(b"done")


def fails(source: Path, target: Path) -> None:
    say("5%")
    say("CUDA error: device-side assert triggered")
    sys.exit(3)


def killed(source: Path, target: Path) -> None:
    say("loading 40 GB")
    os.kill(os.getpid(), signal.SIGKILL)


def several(source: Path, target: Path, *names: str) -> None:
    for name in names:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def hangs(source: Path, target: Path) -> None:
    """Waits without end with a child, deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-S", "-c", "import threading; threading.Event().wait()"])
    ready = source.with_name("pids.new")
    ready.write_text(f"{os.getpid()} {child.pid}")
    ready.rename(source.with_name("pids"))
    say("1%")
    threading.Event().wait()


def once(source: Path, target: Path) -> None:
    """Hangs, and ends well when it is run again."""
    if not source.with_name("pids").exists():
        hangs(source, target)
    target.write_bytes(b"done")


MODES = {
    "echo": echo, "where": where, "reverse": reverse, "json": as_json, "large": large, "flood": flood, "fails": fails,
    "killed": killed, "several": several, "hangs": hangs, "once": once,
}  # fmt: skip

if __name__ == "__main__":
    MODES[sys.argv[1]](*map(Path, sys.argv[2:4]), *sys.argv[4:])
