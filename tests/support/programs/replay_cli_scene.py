"""`wakestream replay` and `shrink` as their users run them, on recorded logs and on changed ones."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from tests.support.streams.replay_scene import LOGS, recorded, under
from wakestream.adapters.telemetry.recordings import write
from wakestream.streams.recording.recording import Log

COMMAND = (sys.executable, "-m", "wakestream.adapters.cli")
ROOT = Path(__file__).parents[3]
OFFLINE, ONLINE = LOGS / "offline.jsonl", LOGS / "online.jsonl"


class CommandRun:
    """What a command said."""

    def __init__(self, *arguments: object) -> None:
        ran = subprocess.run(
            [*COMMAND, *map(str, arguments)], capture_output=True, timeout=50, check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "120"},
        )  # fmt: skip
        self.code, self.out, self.err = ran.returncode, ran.stdout.decode(), ran.stderr.decode()
        assert "Traceback" not in self.err, self.err

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.out.splitlines()]


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
