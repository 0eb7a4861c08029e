"""How long a leader is sure that no other hub leads: a lock in a session of its own, which another leader needs too.

The server ends this session `idle` seconds after the last statement that arrived, so the leader counts them from the
moment at which it sent the last one that was answered. It sends them without waiting for the answers to those before,
and beside what it writes, so neither slow answers nor a long statement end the lease.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import psycopg
from psycopg.pq import ExecStatus

from wakestream.adapters.disk.postgres import CLASS, LOCKS, connect, errors, scalar
from wakestream.operators.model.errors import Fenced

BEAT = 0.25
"""Seconds between two statements."""

MARGIN = 0.25
"""Seconds by which the lease ends before the server's limit, in which the leader cuts its connections."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def clock() -> float:
    """Seconds that also pass while the program or the machine is paused."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class Lease:
    """The lease of one term; `taken` says whether this session has the lock.

    Raises:
        JournalError: The server cannot be reached or used.
    """

    def __init__(self, address: str, idle: float) -> None:
        self._address, self._lasts = address, idle - MARGIN
        self._session = connect(address, idle)
        self._thread: threading.Thread | None = None
        self._closed = False
        self._until = clock() + self._lasts
        with errors(address, "be locked", self._session):
            self.taken = bool(scalar(self._session, "SELECT pg_try_advisory_lock(%s, %s)", CLASS, LOCKS["lease"]))

    def holds(self) -> bool:
        """Whether no other hub can lead."""
        return not self._closed and clock() < self._until

    def keep(self, on_lost: Callable[[Exception], object]) -> None:
        """Extend the lease in a thread, which calls `on_lost` when that fails."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._keep, args=(on_lost,), name="lease", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the lease and its session."""
        self._closed = True
        if self._thread is not None:
            stream = socket.AF_INET, socket.SOCK_STREAM
            with contextlib.suppress(OSError, psycopg.Error), socket.fromfd(self._session.fileno(), *stream) as ours:
                ours.shutdown(socket.SHUT_RDWR)  # wakes the thread; an error means that the session has ended
            self._thread.join()
        self._session.close()

    def _keep(self, on_lost: Callable[[Exception], object]) -> None:
        try:
            with errors(self._address, "be read", self._session):
                self._extend()
        except Exception as error:
            self._until = 0.0
            if not self._closed:
                on_lost(error)

    def _extend(self) -> None:
        pipe, sent, due = self._session.pgconn, deque[float](), 0.0
        pipe.nonblocking = 1
        pipe.enter_pipeline_mode()
        selector = selectors.DefaultSelector()
        selector.register(pipe.socket, selectors.EVENT_READ)
        with contextlib.closing(selector):
            while self.holds():
                if due <= clock():
                    sent.append(clock())
                    due = sent[-1] + BEAT
                    pipe.send_query_params(b"SELECT 1", None)
                    pipe.pipeline_sync()
                    pipe.flush()
                readable = selector.select(min(due, self._until) - clock())
                if readable and not sent:
                    due = 0.0  # the server ends the session, and gives the reason to a statement only
                elif readable:
                    pipe.consume_input()
                while sent and not pipe.is_busy():
                    result = pipe.get_result()
                    if result is not None and result.status == ExecStatus.FATAL_ERROR:
                        pipe.finish()
                        raise psycopg.errors.error_from_result(result)
                    if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
                        self._until = sent.popleft() + self._lasts
        raise Fenced(f"the session with {self._address} ended: no answer in {self._lasts:g} s")
