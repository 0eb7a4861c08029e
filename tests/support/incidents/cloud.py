"""A provider short of machines, for `--power command`: python cloud.py {start,stop,inspect}, in its own folder.

Reads its stock from `cloud.json`: how many starts it still refuses, and the worker's command. The worker's process is
noted in `cloud.pid`.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

STOCK, PID = Path("cloud.json"), Path("cloud.pid")
NO_CAPACITY = 75


def start() -> int:
    """Refuses a given number of times, then starts the worker."""
    stock = json.loads(STOCK.read_text())
    if stock["refusals"]:
        STOCK.write_text(json.dumps({**stock, "refusals": stock["refusals"] - 1}))
        sys.stderr.write("no machine of this kind is in stock\n")
        return NO_CAPACITY
    quiet = subprocess.DEVNULL
    worker = subprocess.Popen(stock["worker"], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    PID.write_text(str(worker.pid))
    return 0


def stop() -> int:
    """Ends the worker."""
    if PID.exists():
        os.kill(int(PID.read_text()), signal.SIGTERM)
        PID.unlink()
    return 0


def inspect() -> int:
    """The state in one word."""
    sys.stdout.write("running\n" if PID.exists() else "stopped\n")
    return 0


if __name__ == "__main__":
    sys.exit({"start": start, "stop": stop, "inspect": inspect}[sys.argv[1]]())
