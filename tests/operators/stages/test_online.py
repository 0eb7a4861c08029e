"""The stage `online` alone."""

import pytest

from tests.support.streams.stage_scene import ONLINE, URL, Stage
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Health

READY = Health(initialized=True, features=frozenset({"blake3"}))
GRANT = e.Granted("online", 0.0, "gpu", URL)


async def test_a_worker_that_is_ready_is_online_at_once_with_its_features() -> None:
    stage = Stage(FakeWorker(healths=[READY]))
    assert await stage.run(stage.of().online(GRANT)) == [ONLINE]
    assert stage.items[0][0] == 0.0


async def test_a_grant_without_an_address_means_the_configured_worker() -> None:
    stage = Stage(FakeWorker(healths=[READY]))
    items = await stage.run(stage.of().online(e.Granted("online", 0.0)))
    assert items == [e.Online(URL, None, READY.features)]


async def test_without_an_address_there_is_an_error(stage: Stage) -> None:
    stage.workers.default = None
    with pytest.raises(errors.WorkerRefused, match="name a worker"):
        stage.of().online(e.Granted("online", 0.0))


async def test_an_unresponsive_worker_is_asked_again() -> None:
    stage = Stage(FakeWorker(healths=[errors.WorkerUnreachable("refused"), errors.WorkerUnreachable("refused"), READY]))
    assert await stage.run(stage.of().online(GRANT)) == [ONLINE]


async def test_a_worker_that_stays_unreachable_fails_within_the_limit() -> None:
    stage = Stage(FakeWorker(healths=[errors.WorkerUnreachable("refused")]))
    await stage.run(stage.of(Policy(lost=10.0)).online(GRANT))
    assert isinstance(stage.end, errors.WorkerUnreachable)


async def test_loading_is_emitted_once_and_checked_every_second() -> None:
    stage = Stage(FakeWorker(healths=[Health(initialized=False)] * 5 + [READY]))
    items = await stage.run(stage.of().online(GRANT))
    assert [type(item) for item in items] == [e.Waking, e.Online]
    assert stage.items[-1][0] == 5.0
