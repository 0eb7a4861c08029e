"""A real PostgreSQL in a folder of its own, for the tests of a module; they are skipped where it is not installed."""

import contextlib
import copy
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))


class PostgresServer:
    """A server on a free port; its databases are lost when it ends. `settings` are lines of `postgresql.conf`."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.data = folder / "data"
        self.port = free_port()
        # PostgreSQL refuses to run as root.
        self.as_other = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        folder.chmod(0o711)
        self.data.mkdir()
        if self.as_other:
            shutil.chown(self.data, "postgres")
        self.run("initdb", "-D", self.data, "-U", "wakestream", "-A", "trust", "--no-sync", "--no-instructions")
        usual = ("shared_buffers = '16MB'", "autovacuum = off", f"port = {self.port}", "listen_addresses = '127.0.0.1'")
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("\n".join((*usual, f"unix_socket_directories = '{self.data}'", *settings, "")))
        self.start()

    def start(self) -> str:
        """Start it, and return when it answers. After `kill`, its other processes must have ended first."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(AssertionError):
                return self.run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-s", "-l", self.data / "log", "start")
        raise AssertionError((self.data / "log").read_text())

    def stop(self, how: str = "immediate") -> None:
        """End it: `fast` as an administrator does, `immediate` as a crash does."""
        self.run("pg_ctl", "-D", self.data, "-w", "-s", "-m", how, "stop")

    def promote(self) -> None:
        """Let a replica take over."""
        self.run("pg_ctl", "-D", self.data, "-w", "-s", "promote")

    def kill(self) -> None:
        """Kill the main process by SIGKILL."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    @property
    def ended(self) -> bool:
        """Whether its main process has ended."""
        try:
            self.run("pg_ctl", "-D", self.data, "status")
        except AssertionError:
            return True
        return False

    def up(self) -> None:
        """Return when it answers after a fault, from which it recovers by itself unless it has ended."""
        while True:
            if self.ended:
                self.start()
            with contextlib.suppress(AssertionError):
                self.sql("postgres", "SELECT 1")
                return

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
        return self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *where, *command)

    def run(self, program: str, *words: object) -> str:
        """Run a program of PostgreSQL; returns what it said."""
        command = [*self.as_other, str(PROGRAMS[-1] / program), *map(str, words)]
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


@contextlib.contextmanager
def replica_of(server: PostgresServer) -> Iterator[PostgresServer]:
    """A server that follows this one, until the block ends. The server waits for it before it acknowledges a commit."""
    with tempfile.TemporaryDirectory(prefix="wakestream-postgres-", ignore_cleanup_errors=True) as folder:
        if server.as_other:
            shutil.chown(folder, "postgres")
        replica = copy.copy(server)
        replica.data, replica.port = Path(folder) / "data", free_port()
        at = ("-h", "127.0.0.1", "-p", server.port, "-U", "wakestream")
        server.run("pg_basebackup", *at, "-D", replica.data, "-R", "-c", "fast", "--no-sync")
        with (replica.data / "postgresql.auto.conf").open("a") as conf:
            conf.write(f"port = {replica.port}\nunix_socket_directories = '{replica.data}'\n")
        replica.start()
        server.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        while server.sql("postgres", "SELECT sync_state FROM pg_stat_replication") != "sync":
            pass
        try:
            yield replica
        finally:
            replica.stop()
