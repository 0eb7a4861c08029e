"""Which addresses are those of the internet."""

from __future__ import annotations

import ipaddress

import pytest

from wakestream.adapters.net.public_addresses import is_public


@pytest.mark.parametrize("address", ["192.0.0.192", "::ffff:192.0.0.192", "127.0.0.1", "100.64.0.1", "64:ff9b::1"])
def test_an_address_that_is_not_of_the_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "192.1.0.1", "2606:4700::1111"])
def test_an_address_of_the_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
