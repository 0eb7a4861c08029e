"""A real PostgreSQL in a folder of its own, for the tests of a module; they are skipped where it is not installed."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))


class PostgresServer:
    """A server on a free port; its databases are lost when it ends. `settings` are lines of `postgresql.conf`."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.data = folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # PostgreSQL refuses to run as root.
        self._as_other = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        folder.chmod(0o711)
        self.data.mkdir()
        if self._as_other:
            shutil.chown(self.data, "postgres")
        self._run("initdb", "-D", self.data, "-U", "wakestream", "-A", "trust", "--no-sync", "--no-instructions")
        usual = ("shared_buffers = '16MB'", "autovacuum = off", f"port = {self.port}", "listen_addresses = '127.0.0.1'")
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("\n".join((*usual, f"unix_socket_directories = '{self.data}'", *settings, "")))
        self.start()

    def start(self) -> str:
        """Start it, and return when it answers. After `kill`, its other processes must have ended first."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(AssertionError):
                return self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-s", "-l", self.data / "log", "start")
        raise AssertionError((self.data / "log").read_text())

    def stop(self, how: str = "immediate") -> None:
        """End it: `fast` as an administrator does, `immediate` as a crash does."""
        self._run("pg_ctl", "-D", self.data, "-w", "-s", "-m", how, "stop")

    def kill(self) -> None:
        """Kill the main process by SIGKILL."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    @property
    def ended(self) -> bool:
        """Whether its main process has ended."""
        try:
            self._run("pg_ctl", "-D", self.data, "status")
        except AssertionError:
            return True
        return False

    def database(self, *statements: str) -> str:
        """Make a new database, run these statements in it, and return its address."""
        name = f"db{uuid.uuid4().hex[:8]}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        if statements:
            self.sql(name, *statements)
        return f"postgresql://wakestream@127.0.0.1:{self.port}/{name}"

    def sql(self, database: str, *statements: str) -> str:
        """Run statements; returns what the last one returned, as text."""
        where = ("-h", "127.0.0.1", "-p", self.port, "-U", "wakestream", "-d", database.rpartition("/")[2])
        command = [word for statement in statements for word in ("-c", statement)]
        return self._run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *where, *command)

    def _run(self, program: str, *words: object) -> str:
        command = [*self._as_other, str(PROGRAMS[-1] / program), *map(str, words)]
        # Into a file: a server that was started would hold a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd="/", timeout=120, check=False)
            output.seek(0)
            said = output.read().strip()
        assert done.returncode == 0, said
        return said


@contextlib.contextmanager
def postgres_server(*settings: str, at: Path | None = None) -> Iterator[PostgresServer]:
    """A server until the block ends, in a folder of its own, or in a new one in `at`."""
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    pytest.importorskip("psycopg", reason="the extra wakestream[postgres] is not installed")
    with tempfile.TemporaryDirectory(prefix="wakestream-postgres-", dir=at, ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder), *settings)
        try:
            yield server
        finally:
            with contextlib.suppress(AssertionError):  # a test has ended it
                server.stop()
