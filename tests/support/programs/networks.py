"""Machines with a network of their own (Linux network namespaces), connected by a switch.

They reach each other and no other network.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

TOOLS = ("ip", "unshare", "nsenter")
LIFE = "300"
"""Seconds after which a namespace ends by itself."""

Prefix = tuple[str, ...]
"""The words before a command that runs on a machine."""


def address(number: int) -> str:
    """The address of a machine; the first one has the number 1."""
    return f"10.77.0.{number}"


def from_another(machine: Prefix) -> Prefix:
    """The words before a command that one machine runs on another one."""
    return tuple(word for word in machine if word != "--user")


@contextmanager
def machines(count: int) -> Iterator[list[Prefix]]:
    """So many machines while the block runs. The test is skipped where this account cannot make networks."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here")
    own = ("unshare", "--user", "--map-root-user", "--net")
    probe = "ip link add switch type bridge && ip link add cable type veth peer name eth0"
    if subprocess.run([*own, "sh", "-c", probe], capture_output=True).returncode:
        pytest.skip("this account cannot make networks with namespaces, bridge and veth")
    with ExitStack() as stack:
        switch = stack.enter_context(_holder(own))
        inside = _entry(switch)
        _run(inside, "ip link add switch type bridge", "ip link set switch up")
        found = []
        for number in range(1, count + 1):
            machine = stack.enter_context(_holder((*inside, "unshare", "--net")))
            cable = f"cable{number}"
            _run(
                inside, f"ip link add {cable} type veth peer name eth0 netns {machine}",
                f"ip link set {cable} master switch", f"ip link set {cable} up",
            )  # fmt: skip
            entry = _entry(machine)
            _run(
                entry, "ip link set lo up", f"ip address add {address(number)}/24 dev eth0", "ip link set eth0 up"
            )  # fmt: skip
            found.append(entry)
        yield found


def _entry(pid: int) -> Prefix:
    return ("nsenter", f"--target={pid}", "--user", "--net", "--preserve-credentials")


@contextmanager
def _holder(command: Sequence[str]) -> Iterator[int]:
    """A process that keeps a namespace; its id. It is in the namespace when it has said a word."""
    words = [*command, "sh", "-c", f"echo; exec sleep {LIFE}"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), f"{words} ended"
            yield process.pid
        finally:
            process.kill()


def _run(prefix: Prefix, *commands: str) -> None:
    for command in commands:
        subprocess.run([*prefix, *command.split()], check=True, capture_output=True)
