"""Which addresses are those of the internet."""

from __future__ import annotations

import ipaddress

import pytest

from wakestream.adapters.net.public_addresses import is_public

LOCAL = ["192.0.0.192", "::ffff:192.0.0.192", "127.0.0.1", "100.64.0.1", "64:ff9b::1"]
PUBLIC = ["1.1.1.1", "192.1.0.1", "2606:4700::1111"]


@pytest.mark.parametrize("address", LOCAL + PUBLIC)
def test_an_address_is_of_the_internet_or_not(address: str) -> None:
    assert is_public(ipaddress.ip_address(address)) is (address in PUBLIC)
