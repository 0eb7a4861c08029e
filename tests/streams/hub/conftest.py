"""A hub, and who is connected to it."""

import pytest

from tests.support.streams.hub_net import Net


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def client(net: Net) -> int:
    return net.join("client")


@pytest.fixture
def worker(net: Net) -> int:
    return net.worker()
