"""Schedulers, and a stage that runs alone."""

import pytest
from reactivex.testing import TestScheduler

from tests.support.streams.stage_scene import Stage
from wakestream.operators.rx.core.scheduler import LoopScheduler


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


@pytest.fixture
async def loop_scheduler() -> LoopScheduler:
    return LoopScheduler()


@pytest.fixture
def stage() -> Stage:
    return Stage()
