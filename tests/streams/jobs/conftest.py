"""The scenes that most tests of the jobs begin with: the hub is connected."""

from __future__ import annotations

import pytest

from tests.support.streams.daemon_scene import House, unreachable
from tests.support.streams.job_scene import Scene, offline


@pytest.fixture
async def scene() -> Scene:
    """The GPU is on."""
    return Scene().connect()


@pytest.fixture
async def waiting() -> Scene:
    """The GPU is off."""
    return Scene(offline).connect()


@pytest.fixture
async def house() -> House:
    """A daemon."""
    return House().connect()


@pytest.fixture
async def cut_off() -> House:
    """A daemon that does not reach its worker."""
    return House(worker=unreachable()).connect()
