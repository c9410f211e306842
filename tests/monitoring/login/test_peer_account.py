"""The account at the other end of a connection, as the kernel's table says it."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from nblb.monitoring.login.peer_account import account_in, is_own_account, peer_account

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the table is Linux's")


def a_pair(address: str) -> tuple[socket.socket, socket.socket]:
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as listening:
        client = socket.create_connection(listening.getsockname()[:2])
        return client, listening.accept()[0]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1"])
def test_this_account(address: str) -> None:
    client, served = a_pair(address)
    with client, served:
        here, there = served.getsockname()[:2], served.getpeername()[:2]
        assert peer_account(here, there) == os.getuid()
        assert is_own_account(here, there)
        assert peer_account(there, here) == os.getuid()


def test_a_closed_end_has_no_account() -> None:
    """The kernel says 0 for it, which is root's."""
    client, served = a_pair("127.0.0.1")
    with served:
        here, there = served.getsockname()[:2], served.getpeername()[:2]
        client.close()
        assert peer_account(here, there) is None


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another account")
def test_another_account() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        child = os.fork()
        if not child:
            os.setuid(1)
            with socket.create_connection(listening.getsockname()) as connection:
                connection.recv(1)
            os._exit(0)
        served = listening.accept()[0]
        with served:
            here, there = served.getsockname(), served.getpeername()
            assert peer_account(here, there) == 1
            assert not is_own_account(here, there)
        os.waitpid(child, 0)


def test_lines_of_other_connections() -> None:
    row = "0: 0100007F:2328 0100007F:D431 {state} 00000000:00000000 00:00000000 00000000  1000 0 {inode} 1"
    here, there = ("127.0.0.1", 0xD431), ("127.0.0.1", 0x2328)
    if sys.byteorder == "little":
        assert account_in([row.format(state="01", inode="77")], here, there, 4) == 1000
        assert account_in([row.format(state="06", inode="77")], here, there, 4) is None
        assert account_in([row.format(state="01", inode="0")], here, there, 4) is None
        assert account_in([row.format(state="01", inode="77")], there, here, 4) is None
    with pytest.raises(ValueError, match="not of this computer"):
        account_in([], here, ("192.0.2.7", 80), 4)
