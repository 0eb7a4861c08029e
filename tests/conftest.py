"""Which loop a test runs on: virtual for the pure rooms, the real one where the world is touched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from wakestream.adapters.cli.i18n.catalog import asked_for
from wakestream.adapters.testing.virtual_loop import VirtualLoop

HERE = Path(__file__).parent

if asked_for(os.environ) != "en":  # the tests compare the English texts, whatever the user's language is
    os.environ["LC_ALL"] = os.environ["WAKESTREAM_LANG"] = "en"

os.environ["WAKESTREAM_CONFIG"] = os.devnull  # the user's own settings must not change a test

VIRTUAL = (HERE / "operators", HERE / "streams")

SLOW = ("acceptance", "browser", "faults", "fuzz", "peers", "windows", "test_determinism.py")
"""Folders and files that `make test` leaves to `make test-rest`."""

FAST = (
    "acceptance/test_daemon.py",
    "acceptance/test_demo.py",
    "acceptance/test_replay_cli.py",
    "acceptance/test_submit.py",
)
"""Files in the slow folders that `make test` runs nevertheless."""

ALONE = (
    "faults/test_kill_run.py",
    "fuzz/test_hub_scale.py",
    "test_determinism.py",
)
"""Slow files that measure time or use every core. They run after the others, one at a time."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual: run this test's loop in virtual time")
    config.addinivalue_line("markers", "slow: not part of `make test`; set by path")
    config.addinivalue_line("markers", "alone: slow, and needs the machine for itself; set by path")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests, by path."""
    for item in items:
        path = item.path.relative_to(HERE)
        if is_one_of(path, SLOW) and not is_one_of(path, FAST):
            item.add_marker("slow")
            if is_one_of(path, ALONE):
                item.add_marker("alone")


def is_one_of(path: Path, places: Sequence[str]) -> bool:
    """Whether a path below tests/ is one of these files, or in one of these folders."""
    return any(path.is_relative_to(place) for place in places)


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    pure = any(folder in item.path.parents for folder in VIRTUAL)
    if pure or item.get_closest_marker("virtual"):
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}
