"""The pytest plugin: a recorded log is a test (see docs/pipelines.md).

pytest imports this in every project where wakestream is installed, so heavy imports are made by marked tests only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from wakestream.adapters.testing.pytest_replay import Record, Replay

MODES = ("none", "once", "rewrite")

MARKERS = (
    "replay(log, *, strict, lenient=False, ignore_time=False, settings=None, build=None, record=None): "
    "replay this recorded log in virtual time before the test, and fail where the program now does otherwise (strict, "
    "unless there are settings); the fixture `replay` has what happened",
    "virtual_loop: run this async test in virtual time, without sockets, threads and processes (needs pytest-asyncio)",
)

NEEDS_ASYNCIO = "is async and runs in virtual time: that needs pytest-asyncio 1.5 or newer"

_RECORDED = pytest.StashKey[list[Path]]()
_REPLAY = pytest.StashKey["Replay"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--replay-record`, and the folder of the logs."""
    group = parser.getgroup("wakestream", "recorded logs as tests")
    group.addoption(
        "--replay-record", choices=MODES, default="none",
        help="none: only replay, and fail a marked test that does real I/O (default); once: record logs that are "
        "missing; rewrite: record all of them again",
    )  # fmt: skip
    parser.addini(
        "replay_logs", "folder of the logs, relative to the root; else they lie beside their tests", default=""
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[_RECORDED] = []


def pytest_itemcollected(item: pytest.Item) -> None:
    """Add the fixture `replay` to marked tests without it."""
    if item.get_closest_marker("replay") and isinstance(item, pytest.Function) and "replay" not in item.fixturenames:
        item.fixturenames = [*item.fixturenames, "replay"]  # a new list: other parametrizations may have no mark


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, None, None]:
    """Offer the virtual loop to marked tests only: otherwise pytest-asyncio would require a loop for every test of a
    project that has no loop factories.
    """
    manager = metafunc.config.pluginmanager
    if not _is_virtual(metafunc.definition) or not iscoroutinefunction(metafunc.function):
        return (yield)
    if not hasattr(metafunc.config.hook, "pytest_asyncio_loop_factories"):
        pytest.fail(f"{metafunc.definition.nodeid} {NEEDS_ASYNCIO}", pytrace=False)
    loops = _VirtualLoops()
    manager.register(loops)
    try:
        return (yield)
    finally:
        manager.unregister(loops)


class _VirtualLoops:
    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_asyncio_loop_factories(self, item: pytest.Item) -> Mapping[str, Callable[[], AbstractEventLoop]] | None:
        from wakestream.adapters.testing.virtual_loop import VirtualLoop

        return {"virtual": VirtualLoop} if _is_virtual(item) else None


def _is_virtual(node: pytest.Item) -> bool:
    return any(node.get_closest_marker(name) for name in ("replay", "virtual_loop"))


@pytest.fixture
def replay(request: pytest.FixtureRequest) -> Replay:
    """The replay of the test's log: outcome(job), events(job), sent(label), divergences."""
    from wakestream.adapters.testing import pytest_replay

    marker = request.node.get_closest_marker("replay")
    if marker is None:
        pytest.fail('the fixture `replay` needs a log: @pytest.mark.replay("x.jsonl")', pytrace=False)
    mark = pytest_replay.replay_mark(marker, request.node)
    mode, recorded = request.config.getoption("replay_record"), request.config.stash[_RECORDED]
    anew = mode == "rewrite" and mark.path not in recorded  # several tests may share a log
    if anew or (mode == "once" and not mark.path.exists()):
        record = mark.record or request.getfixturevalue("replay_record")
        pytest_replay.record_log(mark, record)
        recorded.append(mark.path)
    done = pytest_replay.run(mark)
    request.node.stash[_REPLAY] = done
    return done


@pytest.fixture
def replay_record() -> Record | None:
    """Override it: a function, async or not, that receives an empty folder and records exactly one log there."""
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Check for divergences, then run the test without real I/O."""
    done = item.stash.get(_REPLAY, None)
    if done is None and not item.get_closest_marker("virtual_loop"):
        return (yield)
    from wakestream.adapters.testing.io_guard import no_real_io

    if done is not None:
        done.check()
    with no_real_io() as attempts:
        try:
            result = yield
        except Exception as error:
            for attempt in attempts:
                error.add_note(f"real I/O was tried: {attempt}")
            raise
    if attempts:
        kind = "a replayed test" if done is not None else "a test in virtual time"
        pytest.fail(f"{kind} does no real I/O, this one tried: {'; '.join(attempts)}", pytrace=False)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print which logs were recorded, for review and commit."""
    for path in config.stash[_RECORDED]:
        terminalreporter.write_line(f"recorded {path}")
