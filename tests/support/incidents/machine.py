"""A machine with a worker on it, as a program: python machine.py PIDFILE {once,again} COMMAND…

Says in PIDFILE which process the worker is, before that begins, so that it can be killed. Ends when the worker ends
(`once`: the machine is gone), or starts it again at once (`again`, as a service manager does).
"""

import os
import subprocess
import sys
from pathlib import Path


def main(pidfile: str, life: str, command: list[str]) -> int:
    """Runs until the worker, or its last life, is over."""
    while True:
        worker = subprocess.Popen(command, preexec_fn=lambda: Path(pidfile).write_text(str(os.getpid())))
        code = worker.wait()
        if life == "once":
            return abs(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
