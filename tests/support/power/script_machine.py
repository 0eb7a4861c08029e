"""A machine that is a file, for `--power command`; its starts and stops are noted."""

import sys
from pathlib import Path

import orjson

PROVIDER = """
import sys, time
from pathlib import Path

call, machine = sys.argv[1], Path("machine")
if call == "inspect":
    print("running" if machine.exists() else "stopped")
    sys.exit()
with Path("calls").open("a") as calls:
    calls.write(call + "\\n")
if Path("full").exists():
    sys.exit(75)
if call == "stop":
    machine.unlink()
    sys.exit()
for _ in range(2000):
    if Path("go").exists():
        machine.touch()
        break
    time.sleep(0.01)
"""
"""A start takes until the file `go` is there, or finds no capacity if `full` is; each start and stop is noted."""


def provider(folder: Path, *, ready: bool = True, running: bool = False) -> list[str]:
    """The monitor's flags for a provider in `folder`."""
    (folder / "provider.py").write_text(PROVIDER)
    if ready:
        (folder / "go").touch()
    if running:
        (folder / "machine").touch()
    calls: list[str] = []
    for call in ("start", "stop", "inspect"):
        calls += [f"--{call}", orjson.dumps([sys.executable, str(folder / "provider.py"), call]).decode()]
    return ["--power", "command", *calls, "--state", str(folder / "memory")]


def calls(folder: Path) -> list[str]:
    """The starts and stops so far."""
    noted = folder / "calls"
    return noted.read_text().split() if noted.exists() else []
