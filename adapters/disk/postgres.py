"""Sessions with the PostgreSQL database of a journal: the address, the server's settings, and the tables.

libpq reads what is not in the address, such as the password: from `~/.pgpass`, `PGPASSWORD`, or `passfile=`.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Generator, Iterator
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.documents import NAMES
from wakestream.adapters.disk.journal_chain import after_snapshot, start_of
from wakestream.adapters.disk.state_file import LATER, later_format
from wakestream.operators.model.errors import Fenced, JournalError, NoSpace

FORMAT = 1
"""The number in `wakestream.meta`. CONTRIBUTING.md says when it is raised."""

LOCKS = {"make": 0, "lead": 1, "lease": 99, **{name: number for number, name in enumerate(NAMES, 2)}}
"""Advisory locks: of who makes the tables, of the hub that writes the journal, of its `Lease`, and of each document."""

CLASS = 0x77616B65
"""The first number of all of our advisory locks."""

IDLE = 3.0
"""Seconds without a statement after which the server ends a session: another hub may lead then."""

BEAT = 0.5
"""Seconds between the statements of a session that has nothing to write."""

PATIENCE, OF_CUT = 4.0, 60.0
"""Seconds without a byte from the server after which a session has ended, and those within a cut."""

_LEAST = 14
_DEFAULTS = {
    "connect_timeout": "5", "application_name": "wakestream", "target_session_attrs": "read-write",
    "tcp_user_timeout": "2000", "keepalives_idle": "1", "keepalives_interval": "1", "keepalives_count": "2",
}  # fmt: skip

_TABLES = """
CREATE SCHEMA IF NOT EXISTS wakestream;
CREATE TABLE wakestream.meta (format integer NOT NULL, id text NOT NULL, seq bigint NOT NULL, rows bigint NOT NULL,
    chain bigint NOT NULL, sum bigint NOT NULL, epoch bigint NOT NULL, leader text NOT NULL);
CREATE TABLE wakestream.snapshot (n bigint PRIMARY KEY, data bytea NOT NULL, sum bigint NOT NULL);
CREATE TABLE wakestream.facts (seq bigint PRIMARY KEY, kind text NOT NULL, data bytea NOT NULL, sum bigint NOT NULL);
CREATE TABLE wakestream.ledger (seq bigint PRIMARY KEY, at double precision NOT NULL, kind text NOT NULL,
    data bytea NOT NULL, sum bigint NOT NULL);
CREATE TABLE wakestream.documents (name text PRIMARY KEY, version bigint NOT NULL, data bytea NOT NULL);
"""
"""`meta` has one row: as in SQLite, the journal's id, and of the snapshot its sequence number, its rows and its last
checksum; then how often the leader has changed, and who leads."""

_KNOWN = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'wakestream' AND tablename = 'meta'"


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A session that ends when the server sends nothing for `patience` seconds while a statement waits for it.

    A half-open connection is noticed so, which the server has ended already. It also ends once `over` is set. `doubt`
    is the last warning of the server, such as one that it did not wait for its synchronous standby.
    """

    patience = PATIENCE
    over = False
    doubt = ""

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """See `psycopg.Connection`."""
        return super().wait(self._answered(gen), *args, **options)

    def _answered(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        due, ready = time.monotonic() + self.patience, None
        while True:
            try:
                wanted = gen.send(ready)
            except StopIteration as end:
                return end.value
            ready = yield wanted
            if ready:
                due = time.monotonic() + self.patience
            elif self.over or time.monotonic() > due:
                self.pgconn.finish()
                why = "the lease ended" if self.over else f"no answer in {self.patience:g} s"
                raise psycopg.OperationalError(why)

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """Allow long statements until the block ends."""
        self.patience = OF_CUT
        try:
            yield
        finally:
            self.patience = PATIENCE

    def note(self, notice: psycopg.errors.Diagnostic) -> None:
        """Keep a warning."""
        if notice.severity_nonlocalized == "WARNING":
            self.doubt = notice.message_primary or "a warning"


def checked_address(address: str) -> str:
    """Return the address. `SettingsError`: it is no address, or has a password, which others could see."""
    try:
        known = conninfo_to_dict(address if address.startswith(("postgresql://", "postgres://")) else "=")
    except psycopg.ProgrammingError:
        raise SettingsError("--journal is no address; write postgresql://USER@HOST:5432/DATABASE") from None
    if secret := {"password", "sslpassword"} & known.keys():
        what = f"--journal has a {secret.pop()}, which others can see; put it into ~/.pgpass, PGPASSWORD"
        raise SettingsError(f"{what} or a file that passfile= names, and use another one from now on")
    return address


def connect(address: str, idle: float = IDLE) -> Session:
    """Open a session that loses nothing, and that the server ends after `idle` seconds without a statement.

    Raises:
        JournalError: The server cannot be reached or used, or a setting of it would lose facts.
    """
    options: dict[str, Any] = {**_DEFAULTS, **conninfo_to_dict(checked_address(address)), "client_encoding": "UTF8"}
    with errors(address, "be opened"):
        session = Session.connect(**options, autocommit=True)
    with contextlib.ExitStack() as stack:
        stack.callback(session.close)
        session.add_notice_handler(session.note)
        with errors(address, "be opened", session):
            _check(address, session, f"{idle:g}s")
        stack.pop_all()
    return session


def _check(address: str, session: Session, idle: str) -> None:
    if session.info.server_version < _LEAST * 10_000:
        version = session.info.server_version // 10_000
        raise unusable(address, f"its server is PostgreSQL {version}; use version {_LEAST} or later")
    if scalar(session, "SELECT pg_backend_pid()") != session.info.backend_pid:
        what = "a pooler (such as PgBouncer) is in between, which may change the session"
        raise unusable(address, f"{what}; give the server's own address")
    for name in ("fsync", "full_page_writes"):
        if scalar(session, f"SHOW {name}") != "on":
            raise unusable(address, f"its server has {name} = off and loses facts in a power cut; set it to on")
    commit, standbys = scalar(session, "SHOW synchronous_commit"), scalar(session, "SHOW synchronous_standby_names")
    if commit == "off" or (standbys and commit in ("local", "remote_write")):
        raise unusable(address, f"its server has synchronous_commit = {commit} and may lose facts; set it to on")
    for name, value in (
        ("idle_session_timeout", idle), ("idle_in_transaction_session_timeout", idle),
        ("synchronous_commit", commit), ("statement_timeout", "0"), ("lock_timeout", "0"),
    ):  # fmt: skip
        session.execute("SELECT set_config(%s, %s, false)", (name, value))
    if scalar(session, "SELECT setting FROM pg_settings WHERE name = 'idle_session_timeout'") == "0":
        raise unusable(address, "idle_session_timeout cannot be set; without it a paused hub keeps others from leading")


def make_tables(address: str, session: Session) -> None:
    """Make the tables if they are missing.

    Raises:
        JournalError: The account may not, or a later version made them or wrote a document.
    """
    with errors(address, "be opened", session):
        known = scalar(session, _KNOWN)
    if not known:
        user, database = session.info.user, session.info.dbname
        allow = f"as its owner, run: CREATE SCHEMA wakestream AUTHORIZATION {user}"
        try:
            with errors(address, "be opened", session), session.transaction():
                session.execute("SELECT pg_advisory_xact_lock(%s, %s)", (CLASS, LOCKS["make"]))
                if not scalar(session, _KNOWN):
                    session.execute(_TABLES)
                    id_ = uuid.uuid4().hex
                    base = after_snapshot(id_, 0, start_of(id_))
                    head = (FORMAT, id_, 0, *start_of(id_), base.sum)
                    session.execute("INSERT INTO wakestream.meta VALUES (%s, %s, %s, %s, %s, %s, 0, '')", head)
        except _NotAllowed:
            raise unusable(address, f"{user} may not make tables in the database {database}; {allow}") from None
    with errors(address, "be read", session):
        if (format_ := scalar(session, "SELECT format FROM wakestream.meta")) != FORMAT:
            raise JournalError(LATER.format(path=address, number=format_))
        for name, content in session.execute("SELECT name, data FROM wakestream.documents", binary=True):
            if later := later_format(f"{name.partition('.')[0]} in {address}", content):
                raise JournalError(later)


def scalar(session: Session, query: str, *values: Any) -> Any:
    """The first value of the first row; None without one."""
    row = session.execute(query.encode(), values).fetchone()
    return row[0] if row else None


class _NotAllowed(JournalError):
    """The account lacks a right."""


@contextlib.contextmanager
def errors(address: str, what: str, session: Session | None = None) -> Iterator[None]:
    """Errors of PostgreSQL as `JournalError` with a sentence; as `Fenced` when the session has ended."""
    try:
        yield
    except psycopg.errors.DiskFull as error:
        raise NoSpace(f"no space left for {address}; make room at its server") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise _NotAllowed(f"{address} cannot {what}: {_text(error)}; grant this right") from error
    except psycopg.Error as error:
        if session is not None and session.closed:
            raise Fenced(f"the session with {address} ended: {_text(error)}") from error
        unreachable = session is None and isinstance(error, psycopg.OperationalError)
        code = "database_unreachable" if unreachable else None  # a service starts again then
        raise JournalError(f"{address} cannot {what}: {_text(error)}", code=code) from error


def _text(error: psycopg.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines)) or type(error).__name__


def unusable(address: str, reason: str) -> JournalError:
    """Why a database is refused."""
    return JournalError(f"{address} cannot be used: {reason}")
