"""Which loop a test runs on: virtual for the pure rooms, the real one where the world is touched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from wakestream.adapters.cli.i18n.catalog import asked_for
from wakestream.adapters.testing.virtual_loop import VirtualLoop

HERE = Path(__file__).parent

if asked_for(os.environ) != "en":  # whoever runs them: the sentences compared are the English ones
    os.environ["LC_ALL"] = os.environ["WAKESTREAM_LANG"] = "en"

os.environ["WAKESTREAM_CONFIG"] = os.devnull  # nor are the settings of whoever runs them any of theirs

VIRTUAL = (HERE / "operators", HERE / "streams")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual: run this test's loop in virtual time")


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    pure = any(folder in item.path.parents for folder in VIRTUAL)
    if pure or item.get_closest_marker("virtual"):
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}
