"""Which loop a test runs on: virtual for the pure rooms, the real one where the world is touched."""

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import none

from tests.support.looking_loop import LookingLoop
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.programs import fork_server
from tests.support.windows.as_on_windows import MARK
from wakestream.adapters.cli.i18n.catalog import asked_for
from wakestream.adapters.testing.virtual_loop import VirtualLoop

if TYPE_CHECKING:
    from tests.support.programs.cluster_scene import Cluster

HERE = Path(__file__).parent

if asked_for(os.environ) != "en":  # the tests compare the English texts, whatever the user's language is
    os.environ["LC_ALL"] = os.environ["WAKESTREAM_LANG"] = "en"

os.environ["WAKESTREAM_CONFIG"] = os.devnull  # the user's own settings must not change a test

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: programs would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A loaded machine is no fault of a test. CI says what a change broke, so it draws the same examples each time; all
# others draw fresh ones.
settings.register_profile(
    "steady",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("WAKESTREAM_EXAMPLES") == "same",
)
settings.load_profile("steady")

VIRTUAL = (HERE / "operators", HERE / "streams")

SLOW = (
    "acceptance",
    "adapters/disk/test_postgres_faults.py",
    "adapters/disk/test_postgres_journal.py",
    "adapters/hub/test_documents_in_postgres.py",
    "adapters/power/test_conformance.py",
    "browser",
    "docs/test_code_types.py",
    "docs/test_pipelines.py",
    "faults",
    "fuzz",
    "peers",
    "test_determinism.py",
    "windows",
)
"""Folders and files that `make test` leaves to `make test-rest`."""

FAST = ("acceptance/test_submit.py",)
"""Files in the slow folders that `make test` runs nevertheless."""

ALONE = (
    "fuzz/test_hub_scale.py",
    "test_determinism.py",
)
"""Slow files that measure time or use every core. They run after the others, one at a time."""

SUITES = ("fast", "rest", "alone")


def suite_of(path: Path) -> str:
    """The suite that runs the file at this path below tests/."""

    def is_in(places: Sequence[str]) -> bool:
        return any(path.is_relative_to(place) for place in places)

    if is_in(FAST) or not is_in(SLOW):
        return "fast"
    return "alone" if is_in(ALONE) else "rest"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", choices=SUITES, help="run one part of the tests; each test is in exactly one")


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until all is collected
    config.addinivalue_line("markers", "virtual: run this test's loop in virtual time")
    fork_server.install()


def pytest_unconfigure() -> None:
    fork_server.close()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give each coroutine in real time a limit, after which it ends with the line at which it waits."""
    test = getattr(item, "obj", None)
    if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(test) or _is_virtual(item):
        return

    @functools.wraps(test)
    async def within(*args: Any, **named: Any) -> None:
        marker = item.get_closest_marker("timeout")
        whole = float(marker.args[0] if marker else item.config.getini("timeout"))
        async with asyncio.timeout(0.75 * whole):
            await test(*args, **named)

    item.obj = within


def pytest_collection_finish() -> None:
    """The collected tests stay, so the garbage collector need not look through them, nor as often as usual."""
    gc.enable()
    given(none())(lambda _: None)()  # Hypothesis looks once who holds its random numbers; what is frozen is not seen
    gc.freeze()
    gc.set_threshold(5000, 20, 20)


def _is_virtual(item: pytest.Item) -> bool:
    return any(folder in item.path.parents for folder in VIRTUAL) or item.get_closest_marker("virtual") is not None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files of other suites before they are imported."""
    suite = config.getoption("--suite")
    if suite is None or collection_path.suffix != ".py":
        return None
    return True if suite_of(collection_path.relative_to(HERE)) != suite else None


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    real = asyncio.new_event_loop if sys.platform == "win32" or MARK in os.environ else LookingLoop
    return {"virtual": VirtualLoop} if _is_virtual(item) else {"real": real}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL."""
    with postgres_server() as server:
        yield server


@pytest.fixture
async def cluster(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator["Cluster"]:
    """Real hubs on a new database."""
    from tests.support.programs.cluster_scene import Cluster

    async with contextlib.AsyncExitStack() as stack:
        yield Cluster(await asyncio.to_thread(postgres.database), tmp_path, stack)
