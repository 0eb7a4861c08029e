"""The stores of these tests, a bucket for each test, and a depot in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from tests.support.depot.stores import STORES, Store
from tests.support.log_lines import logged
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.depot.bucket import PUT_KEY, Bucket
from wakestream.adapters.depot.s3 import S3Depot

_numbers = count(1)
_stack = ExitStack()
_started: dict[str, Store] = {}


@pytest.fixture(scope="session", autouse=True)
def _stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with _stack:
        yield


@pytest.fixture
def no_link_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does, neither our log nor that of boto3 at its usual level shows a signature."""
    with logged("TRACE") as lines:
        yield
    assert not any("Signature=" in line for line in (*lines, caplog.text))


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Each of the stores; a test of one has `indirect`."""
    name = request.param
    if name not in _started:
        _started[name] = _stack.enter_context(STORES[name](tmp_path_factory.mktemp(name)))
    return _started[name]


@pytest.fixture
def bucket(store: Store) -> Bucket:
    """An empty bucket."""
    name = f"depot-{next(_numbers)}"
    store.client().create_bucket(Bucket=name)
    return Bucket.parse(f"s3://{name}/wakestream", store.url)


@pytest.fixture
async def depot(store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Depot]:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", *PUT_KEY):
        monkeypatch.delenv(name, raising=False)
    depot = S3Depot(bucket)
    yield depot
    await depot.close()


@pytest.fixture
async def session() -> AsyncIterator[HttpWorkers]:
    workers = HttpWorkers(idle=20.0)
    yield workers
    await workers.close()
