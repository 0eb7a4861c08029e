"""`wakestream replay` and `shrink` as their users run them, on recorded logs and on changed ones."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.programs.client_scene import Ran
from tests.support.programs.here import ran_here
from tests.support.streams.replay_scene import LOGS, recorded, under
from wakestream.adapters.telemetry.recordings import write
from wakestream.streams.recording.recording import Log

COMMAND = (sys.executable, "-m", "wakestream.adapters.cli")
ROOT = Path(__file__).parents[3]
OFFLINE, ONLINE = LOGS / "offline.jsonl", LOGS / "online.jsonl"


def command_run(*arguments: object, folder: Path | None = None) -> Ran:
    """A command to its end in this process; or as a program in this folder, where `--pipeline` finds modules."""
    if folder is None:
        return ran_here(*arguments)
    command = [*COMMAND, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, timeout=50, check=False, cwd=folder)
    assert b"Traceback" not in ran.stderr, ran
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def saved(log: Log, path: Path) -> Path:
    write(log, path)
    return path


def tight(tmp_path: Path) -> Path:
    """A log whose job came online just in time."""
    log = recorded("offline")
    online = next(row.t for row in log.rows if row.label == "ack")
    return saved(under(log, online=round(online + 0.2, 3)), tmp_path / "tight.jsonl")


def tampered(tmp_path: Path) -> Path:
    """A log that says something else than the program does."""
    path = tmp_path / "tampered.jsonl"
    text = ONLINE.read_text(encoding="utf-8")
    path.write_text(re.sub(r'("label":"submitted".*"task_id":")', r"\1x", text), encoding="utf-8")
    return path
