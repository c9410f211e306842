"""The address on which a core listens for other computers."""

from __future__ import annotations

import socket

import pytest

from nblb.errors import NblbError
from nblb.transport.curve.addresses import listening_address, reachable_name


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.7", "::1", "localhost"])
def test_loopback_is_not_listened_on(name: str) -> None:
    assert listening_address(name) == ""


@pytest.mark.parametrize(
    ("name", "ip"), [("192.0.2.7", "192.0.2.7"), ("*", "0.0.0.0"), ("::", "::"), ("[fd00::1]", "fd00::1")]
)
def test_addresses(name: str, ip: str) -> None:
    assert listening_address(name) == ip


def test_a_name_of_no_computer() -> None:
    with pytest.raises(NblbError, match=r"LB_IP is 'no-such-host\.invalid'"):
        listening_address("no-such-host.invalid")


def test_how_others_reach_it() -> None:
    assert reachable_name("192.0.2.7") == "192.0.2.7"
    assert reachable_name("0.0.0.0") not in ("", "0.0.0.0", "127.0.0.1")
    assert reachable_name("::") in (reachable_name("::"), socket.gethostname())
