"""Programs of ours that start in some 10 ms: a server that has imported everything forks for each one.

A start of Python costs 0.4 s of processor time, nearly all of it for imports, and the tests start more than a thousand
programs. What starts is a process like any other, with its own id, files, folder and environment, and it is a child of
the process that asked. `install` makes `subprocess` and asyncio use it for `python -m wakestream.adapters.cli …`. Every
other command, and every call with something unusual (other settings of Python, a mark by which a test finds
the process), starts as always; so does everything where Linux or the Python that we know is not there.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROGRAM = ["-m", "wakestream.adapters.cli"]
SEEN = b"A_MARK_OF"
"""How the names of variables begin by which a test finds processes in /proc, where the server's variables stand."""

SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): whose parent has ended becomes our child."""

_server: "ForkServer | None" = None


class ForkServer:
    """The servers of this process, one for each Python; the first program starts it."""

    def __init__(self) -> None:
        self._usual = subprocess._fork_exec  # type: ignore[attr-defined]
        self._prctl = ctypes.CDLL(None).prctl
        self._lock = threading.Lock()
        self._lines: dict[str, socket.socket] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        subprocess._fork_exec = self.fork_exec  # type: ignore[attr-defined]

    def fork_exec(self, *call: Any) -> int:
        """What `subprocess` calls to start a program: its process id."""
        request = _request(call)
        if request is None:
            return int(self._usual(*call))
        python, message, files = request
        with self._lock:
            line = self._lines[python] = self._lines.get(python) or self._served(python)
            self._prctl(SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(line, [message], files)
                return int(line.recv(32))
            finally:
                self._prctl(SUBREAPER, 0, 0, 0, 0)

    def _served(self, python: str) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            command, nothing = (python, __file__, str(its.fileno())), subprocess.DEVNULL
            self._processes += [subprocess.Popen(command, stdin=nothing, stdout=nothing, pass_fds=[its.fileno()])]
        return ours

    def close(self) -> None:
        """End the servers; their programs stay."""
        subprocess._fork_exec = self._usual  # type: ignore[attr-defined]
        for line in self._lines.values():
            line.close()
        for process in self._processes:
            process.wait()


def install() -> None:
    """Use it from now on in this process, if it is possible here."""
    global _server
    if _server is None and sys.platform == "linux" and sys.version_info[:2] == (3, 11):
        _server = ForkServer()


def close() -> None:
    """Start programs as always again."""
    global _server
    if _server is not None:
        _server.close()
        _server = None


@contextlib.contextmanager
def without() -> Iterator[None]:
    """Start programs as always in this block: for what reads their command lines."""
    was = _server is not None
    close()
    try:
        yield
    finally:
        if was:
            install()


def _request(call: Sequence[Any]) -> tuple[str, bytes, list[int]] | None:
    """The Python, the call for its server and the program's files, or None where it must start as always."""
    (args, programs, close_fds, pass_fds, cwd, env, stdin, _, _, stdout, _, stderr, _, error_pipe) = call[:14]
    (_, new_session, group, gid, gids, uid, umask, before, _) = call[14:]
    words = [os.fsdecode(word) for word in args]
    usual = close_fds and umask == -1 and group == -1 and (gid, gids, uid, before) == (None,) * 4
    if not usual or words[1:3] != PROGRAM or not words[0].startswith("/") or [os.fsencode(words[0])] != [*programs]:
        return None
    mine = dict(os.environb)
    its = mine if env is None else dict(pair.split(b"=", 1) for pair in env)
    if any(its.get(name, b"") != mine.get(name, b"") for name in its.keys() | mine.keys() if name[:6] == b"PYTHON"):
        return None
    if any(name.startswith(SEEN) for name in its):
        return None
    folder = Path(os.fsdecode(cwd)) if cwd is not None else Path.cwd()
    passed = [file for file in pass_fds if file != error_pipe]
    files = [given if given != -1 else usual for usual, given in enumerate((stdin, stdout, stderr))] + passed
    if not folder.is_dir():
        return None
    wanted = {
        "words": words,
        "folder": str(folder),
        "session": bool(new_session),
        "files": [0, 1, 2, *passed],
        "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in its.items()},
    }
    message = json.dumps(wanted).encode()
    return (words[0], message, files) if len(message) < 100_000 else None


# The server


def _import_all() -> None:
    """Import what the programs import, also those of an earlier release."""
    commands = importlib.import_module("wakestream.adapters.cli.commands")
    names = [f"{commands.__name__}.{module.name}" for module in pkgutil.iter_modules(commands.__path__)]
    roles = ("cli.serve", "hub.server", "worker.program", "daemon.program", "monitor.runner")
    for name in [*names, *(f"wakestream.adapters.{role}" for role in roles)]:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _next(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Wait for the next request and fork. It returns in the new program with its request, or None at the end."""
    while True:
        message, files, _, _ = socket.recv_fds(line, 200_000, 250)
        if not message:
            return None
        (told, tell), (may, let) = os.pipe(), os.pipe()
        if not (parent := os.fork()):
            if program := os.fork():  # whoever asked gets the program as a child when we end
                os.write(tell, str(program).encode())
                os._exit(0)
            os.read(may, 1)
            return json.loads(message), files
        program_id = os.read(told, 32)
        os.waitpid(parent, 0)
        os.write(let, b".")
        for file in (told, tell, may, let, *files):
            os.close(file)
        line.send(program_id)


def _become(wanted: dict[str, Any], files: list[int]) -> None:
    """Be a new process: its files, folder, environment, session."""
    import fcntl  # Windows has none

    above = max(wanted["files"]) + 1
    kept = [fcntl.fcntl(file, fcntl.F_DUPFD, above) for file in files]
    for file, number in zip(kept, wanted["files"], strict=True):
        os.dup2(file, number)
    for file in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if file not in wanted["files"]:
            with contextlib.suppress(OSError):  # the listing's own is closed
                os.close(file)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    if wanted["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    time.tzset()
    tempfile.tempdir = None
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding=sys.__stdin__.encoding)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding=sys.__stdout__.encoding)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding=sys.__stderr__.encoding, errors="backslashreplace")
    sys.path.insert(0, wanted["folder"])
    sys.orig_argv[:] = wanted["words"]
    sys.argv[:] = wanted["words"][2:]


def main(number: int) -> None:
    """Serve until whoever asks is gone; in a new program, run it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    del sys.path[0]  # this file's folder
    _import_all()
    with socket.socket(fileno=number) as line:
        request = _next(line)
        if request is None:
            return
        line.detach()
    _become(*request)
    runpy.run_module(PROGRAM[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
