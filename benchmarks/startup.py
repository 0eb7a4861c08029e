"""How long a person waits for `wakestream --help`, and for the help of one command, which imports what it runs on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from timing import in_turns, row

SPARE = 0.060
"""Seconds that a start may take beside 2.5 times that of Python."""

LIBRARIES = "import aiohttp, loguru, orjson, reactivex"
"""What `wakestream jobs` runs on."""


def started(*arguments: str) -> Callable[[], None]:
    """Run Python with these arguments, to its end."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    return run


def main() -> bool:
    """Print the rows; True if every budget holds."""
    cli = ("-m", "wakestream.adapters.cli")
    taken = in_turns(
        15,
        python=started("-c", "pass"),
        libraries=started("-c", LIBRARIES),
        all=started(*cli, "--help"),
        one=started(*cli, "jobs", "--help"),
    )
    print("start-up, to the end of a help text")
    print(
        f"        wakestream --help {taken['all'] * 1e3:.0f} ms, wakestream jobs --help {taken['one'] * 1e3:.0f}, "
        f"python -c pass {taken['python'] * 1e3:.0f}, its libraries {taken['libraries'] * 1e3:.0f}"
    )
    allowed = 2.5 * taken["python"] + SPARE
    every = row("2.5 x python -c pass + 60 ms: wakestream --help", taken["all"], allowed, 1.0)
    return row("python with its libraries: wakestream jobs --help", taken["one"], taken["libraries"], 2.0) and every
