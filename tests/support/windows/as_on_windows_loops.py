"""asyncio's proactor transports, which are what Windows uses, over a proactor that waits by `select`."""

import asyncio
import contextlib
import errno
import os
import selectors
import socket
from asyncio import base_subprocess, events, proactor_events
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

FAIL_ACCEPTS = "AS_ON_WINDOWS_FAIL_ACCEPTS"
"""So many accepts of a process fail, as when a caller has gone before he was let in (WinError 64)."""


class _Future(asyncio.Future):  # type: ignore[type-arg]
    """A pending operation; after a cancel it is not retried."""

    forget: Callable[[], None] = staticmethod(lambda: None)

    def cancel(self, *args: Any, **named: Any) -> bool:
        self.forget()
        return super().cancel(*args, **named)


class SelectProactor:
    """Completes operations as `IocpProactor` does: each is tried when its descriptor is ready, until it is done."""

    def __init__(self, _concurrency: int = 0) -> None:
        self._selector = selectors.DefaultSelector()
        self._waiting: defaultdict[tuple[int, int], list[tuple[_Future, Callable[[], Any], Any]]] = defaultdict(list)
        self._loop: Any = None
        self._results: list[_Future] = []
        self._to_fail = int(os.environ.get(FAIL_ACCEPTS, "0"))

    def set_loop(self, loop: Any) -> None:
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[_Future]:
        for key, ready in self._selector.select(0 if self._results else timeout):
            for side in (READ, WRITE):
                if ready & side:
                    self._try(key.fd, side)
        done, self._results = self._results, []
        return done

    def close(self) -> None:
        self._selector.close()

    def _stop_serving(self, listener: socket.socket) -> None:
        for future, _, _ in self._waiting.pop((listener.fileno(), READ), []):
            future.cancel()
        self._watch(listener.fileno())  # -1: it was closed already

    # Operations

    def recv(self, conn: Any, count: int, flags: int = 0) -> _Future:
        return self._when(conn, READ, lambda: _received(conn, count, flags), at_once=True)

    def recv_into(self, conn: Any, buffer: Any, flags: int = 0) -> _Future:
        def attempt() -> int:
            data = _received(conn, len(buffer), flags)
            memoryview(buffer)[: len(data)] = data
            return len(data)

        return self._when(conn, READ, attempt, at_once=True)

    def send(self, conn: Any, data: Any, flags: int = 0) -> _Future:
        """Completes when all was sent, as there."""
        left, size = memoryview(data), len(data)

        def attempt() -> int:
            nonlocal left
            while left:
                sent = conn.send(left, flags) if isinstance(conn, socket.socket) else os.write(conn.fileno(), left)
                left = left[sent:]
            return size

        return self._when(conn, WRITE, attempt, at_once=True)

    def accept(self, listener: socket.socket) -> _Future:
        def attempt() -> tuple[socket.socket, Any]:
            conn, address = socket.socket.accept(listener)  # as there, by no method of its own
            if self._to_fail:
                self._to_fail -= 1
                conn.close()
                error = OSError(22, "The specified network name is no longer available")
                error.winerror = 64  # type: ignore[attr-defined]
                raise error
            conn.setblocking(False)
            return conn, address

        return self._when(listener, READ, attempt)

    def connect(self, conn: socket.socket, address: Any) -> _Future:
        conn.connect_ex(address)

        def attempt() -> socket.socket:
            number = conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))
            return conn

        return self._when(conn, WRITE, attempt)

    def sendfile(self, conn: socket.socket, file: Any, offset: int, count: int) -> _Future:
        end = offset + count

        def attempt() -> int:
            nonlocal offset
            while offset < end and (sent := os.sendfile(conn.fileno(), file.fileno(), offset, end - offset)):
                offset += sent
            return count

        return self._when(conn, WRITE, attempt)

    def wait_for_handle(self, handle: Any) -> _Future:
        return self._when(handle, READ, lambda: True)

    # Waiting

    def _when(self, conn: Any, side: int, attempt: Callable[[], Any], *, at_once: bool = False) -> _Future:
        """`at_once`: what can be done without waiting is done when this returns, as there."""
        descriptor = conn if isinstance(conn, int) else conn.fileno()
        future = _Future(loop=self._loop)
        queue = self._waiting[descriptor, side]
        if at_once and not queue:
            with contextlib.suppress(BlockingIOError, OSError):
                future.set_result(attempt())
                self._results.append(future)
                return future
        queue.append((future, attempt, conn))
        future.forget = lambda: self._drop(descriptor, side, future)
        self._watch(descriptor)
        return future

    def _drop(self, descriptor: int, side: int, future: _Future) -> None:
        queue = self._waiting.get((descriptor, side), [])
        queue[:] = [each for each in queue if each[0] is not future]
        self._watch(descriptor)

    def _try(self, descriptor: int, side: int) -> None:
        queue = self._waiting.get((descriptor, side), [])
        while queue:
            future, attempt, conn = queue[0]
            try:
                value = attempt()
            except BlockingIOError:
                break
            except OSError as error:
                if isinstance(error, ConnectionError) and isinstance(conn, socket.socket):
                    _reset.add(conn)
                future.set_exception(error)
            else:
                future.set_result(value)
            queue.pop(0)
            self._results.append(future)
        self._watch(descriptor)

    def _watch(self, descriptor: int) -> None:
        if descriptor < 0:
            return
        wanted = sum(side for side in (READ, WRITE) if self._waiting.get((descriptor, side)))
        for side in (READ, WRITE):
            if not self._waiting.get((descriptor, side)):
                self._waiting.pop((descriptor, side), None)
        known = self._selector.get_map() or {}
        if descriptor in known:
            self._selector.unregister(descriptor)
        if wanted:
            self._selector.register(descriptor, wanted)


_reset: WeakSet[socket.socket] = WeakSet()
"""Connections that the other side broke off."""


class _Socket(socket.socket):
    def bind(self, address: Any) -> None:
        """As there, connections that have ended (TIME_WAIT) do not keep a port; another listener does."""
        if self.type == socket.SOCK_STREAM and self.family != socket.AF_UNIX:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        super().bind(address)

    def shutdown(self, how: int) -> None:
        """After a reset it fails as there; of one that has ended in order Linux complains, and Windows does not."""
        try:
            super().shutdown(how)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            if self in _reset:
                raise ConnectionResetError(errno.ECONNRESET, "forcibly closed by the remote host") from None


def _received(conn: Any, count: int, flags: int) -> bytes:
    if isinstance(conn, socket.socket):
        return conn.recv(count, flags)
    return os.read(conn.fileno(), count)


class _Subprocess(base_subprocess.BaseSubprocessTransport):
    def send_signal(self, signal: int) -> None:  # as asyncio has them for Windows; elsewhere it asks the system itself
        self._check_proc()
        self._proc.send_signal(signal)

    def terminate(self) -> None:
        self._check_proc()
        self._proc.terminate()

    def kill(self) -> None:
        self._check_proc()
        self._proc.kill()

    def _start(self, args: Any, shell: Any, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **named: Any) -> None:
        import subprocess

        mine = None
        if stdin == subprocess.PIPE:  # a pair of sockets: its reading tells when the other end is closed
            stdin, mine = socket.socketpair()
        try:
            self._proc = subprocess.Popen(
                args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=bufsize, **named
            )
        finally:
            if mine is not None:
                stdin.close()
        if mine is not None:
            mine.setblocking(False)
            self._proc.stdin = mine
        for pipe in filter(None, (self._proc.stdout, self._proc.stderr)):
            os.set_blocking(pipe.fileno(), False)
        ended = os.pidfd_open(self._proc.pid)

        def callback(_: Any) -> None:
            os.close(ended)
            self._process_exited(self._proc.poll())

        self._loop._proactor.wait_for_handle(ended).add_done_callback(callback)


class ProactorEventLoop(proactor_events.BaseProactorEventLoop):
    """As that of `asyncio.windows_events`; what it lacks raises `NotImplementedError` here as well."""

    def __init__(self, proactor: SelectProactor | None = None) -> None:
        super().__init__(proactor or SelectProactor())

    def run_forever(self) -> None:
        try:
            self.call_soon(self._loop_self_reading)
            super().run_forever()
        finally:
            if self._self_reading_future is not None:
                self._self_reading_future.cancel()
                self._self_reading_future = None

    async def _make_subprocess_transport(
        self, protocol: Any, args: Any, shell: Any, stdin: Any, stdout: Any, stderr: Any, bufsize: int,
        extra: Any = None, **named: Any,
    ) -> Any:  # fmt: skip
        waiter = self.create_future()
        made = _Subprocess(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **named
        )
        try:
            await waiter
        except BaseException:
            made.close()
            await made._wait()
            raise
        return made


class _Policy(events.BaseDefaultEventLoopPolicy):
    _loop_factory = ProactorEventLoop


def begin() -> None:
    """From now on, for all loops."""
    asyncio.IocpProactor = SelectProactor  # type: ignore[attr-defined]
    asyncio.ProactorEventLoop = ProactorEventLoop  # type: ignore[attr-defined]
    asyncio.set_event_loop_policy(_Policy())
    socket.socket = _Socket  # type: ignore[misc]
