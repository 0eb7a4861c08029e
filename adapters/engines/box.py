"""Restrict an engine's process: no network, no new privileges, limited memory and processor time.

This uses programs of the system: bubblewrap, or `unshare` and `setpriv` of util-linux, and `prlimit`. If one of them is
missing or not permitted (as in many containers), its restriction does not apply, and `missing` says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

OPEN_FILES = 4096
"""Files that an engine may have open."""

_TRY_WITHIN = 10.0
_BUBBLEWRAP = ("bwrap", "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", "--")
_UNSHARE = ("unshare", "--net", "--")
_UNSHARE_AS_USER = ("unshare", "--net", "--map-current-user", "--")
_NO_PRIVILEGES = ("setpriv", "--no-new-privs", "--")


@dataclass(frozen=True, slots=True)
class Box:
    """The limits of each run of an engine.

    Args:
        network: Whether it may use the network.
        memory: Bytes of address space (`RLIMIT_AS`); None for no limit, since CUDA reserves more than there is.
        seconds: Seconds of processor time for each core (`RLIMIT_CPU`); None for no limit.
    """

    network: bool = True
    memory: int | None = None
    seconds: float | None = None

    def around(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` with these restrictions."""
        restrictions = () if self.network else _no_network()
        privileges = _NO_PRIVILEGES if _runs((*_NO_PRIVILEGES, "true")) else ()
        return [*restrictions, *self._limits(), *privileges, *argv]

    def missing(self) -> str | None:
        """The restriction that does not apply on this system, and what would help; None if all apply."""
        if sys.platform != "linux":
            return "this system cannot block the network for engines; run only engines that you trust"
        if not self.network and not _no_network():
            return "engines can reach the network; install bubblewrap, or allow user namespaces, to prevent that"
        return None

    def _limits(self) -> list[str]:
        if not _runs(("prlimit", "--nofile=64", "--", "true")):
            return []
        limits = ["prlimit", "--core=0", f"--nofile={OPEN_FILES}"]
        if self.memory is not None:
            limits.append(f"--as={self.memory}")
        if self.seconds is not None:
            limits.append(f"--cpu={int(self.seconds * (os.cpu_count() or 1)) + 1}")
        return [*limits, "--"]


def _no_network() -> tuple[str, ...]:
    return next((command for command in (_BUBBLEWRAP, _UNSHARE, _UNSHARE_AS_USER) if _runs((*command, "true"))), ())


@cache
def _runs(argv: tuple[str, ...]) -> bool:
    if os.name != "posix" or shutil.which(argv[0]) is None:
        return False
    try:
        ended = subprocess.run(argv, capture_output=True, timeout=_TRY_WITHIN, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return ended.returncode == 0


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that we run in; 4 GiB where the system does not say."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 4 * 1024**3
    try:
        return min(found, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        return found
