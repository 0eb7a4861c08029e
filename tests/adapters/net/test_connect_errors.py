"""Why no connection came about, in words."""

import errno
import os
import socket

import aiohttp
import pytest

from wakestream.adapters.client.worker_replies import worker_errors
from wakestream.adapters.net.connect_errors import no_connection
from wakestream.operators.model.errors import WorkerUnreachable


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "its host name is unknown"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "check the network of this machine"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            "nothing listens there (connection refused)",
        ),
        (
            OSError(f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] Connect call failed ('::1', 1), …"),
            "nothing listens",
        ),
        (OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), "this machine has no route to it"),
        (OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)), "this machine has no route to it"),
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 80)"), "(no route to host)"),
        (TimeoutError(errno.ETIMEDOUT, "Connect call failed ('192.0.2.1', 80)"), "it does not answer"),
        (OSError(errno.EINVAL, "Connect call failed ('192.0.2.1', 80)"), os.strerror(errno.EINVAL)),
        (
            OSError(f"Multiple exceptions: [Errno {errno.ENETUNREACH}] Connect call failed ('::1', 1), …"),
            "no route to it",
        ),
        (
            OSError(f"Multiple exceptions: [Errno {errno.ENETUNREACH}] x, [Errno {errno.ECONNREFUSED}] y"),
            "nothing listens there",
        ),
        (OSError("Multiple exceptions: [Errno 1] Connect call failed ('::1', 1), …"), "none of its addresses"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError("odd"), "odd"),
        (OSError(), "OSError"),
    ],
)
def test_system_errors_are_explained(error: OSError, said: str) -> None:
    assert said in no_connection(error)
    assert "[Errno" not in no_connection(error)
    assert "Connect call" not in no_connection(error)


@pytest.mark.parametrize(
    ("number", "said"),
    [(1225, "nothing listens there"), (1231, "network unreachable"), (1232, "no route to host"), (121, "timed out")],
)
def test_windows_errors_are_recognized_by_number(number: int, said: str) -> None:
    alone = OSError(errno.EINVAL, "远程计算机拒绝网络连接。")
    alone.winerror = number  # type: ignore[attr-defined]
    several = OSError(f"Multiple exceptions: [WinError {number}] 远程计算机拒绝网络连接。, [WinError 1] 函数不正确。")
    assert said in no_connection(alone)
    assert said in no_connection(several)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "nothing listens there (connection refused)"),
        ("http://no-such-host.invalid:9", "host"),
    ],
)
async def test_an_unreachable_worker_is_reported_without_error_numbers(url: str, said: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(WorkerUnreachable, match="no connection to") as told, worker_errors(url):
            await session.get(url)
    assert said in str(told.value)
    assert "Errno" not in str(told.value)
    assert "Connect call" not in str(told.value)
