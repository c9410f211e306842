"""Access to a cluster: the folder of its sockets, loopback addresses, and this computer's names."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from nblb.errors import NblbError
from nblb.system.private_folder import is_this_computer, loopback_address, private_folder, socket_address


def test_loopback_has_many_names() -> None:
    assert loopback_address("127.0.0.2", "LB_IP") == "127.0.0.2"
    assert loopback_address("localhost", "LB_IP") in ("127.0.0.1", "::1")
    with pytest.raises(NblbError, match="other computers can reach"):
        loopback_address("0.0.0.0", "LB_IP")


def test_private_folders(tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    wide.mkdir(mode=0o777)
    wide.chmod(0o777)
    assert stat.S_IMODE(private_folder(wide).stat().st_mode) == 0o700
    link = tmp_path / "link"
    link.symlink_to(wide)
    with pytest.raises(NblbError, match="is a link or belongs to another account"):
        private_folder(link)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NblbError, match="cannot be made"):
        private_folder(file)


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(NblbError, match="NBLB_RUNTIME_DIR"):
        socket_address(tmp_path / ("x" * 120))


def test_names_and_addresses_of_this_computer() -> None:
    assert all(map(is_this_computer, ("127.0.0.1", "127.9.9.9", "localhost", "::1", "0.0.0.0", socket.gethostname())))
    assert not is_this_computer("192.0.2.7")
    assert not is_this_computer("no-such-computer.invalid")
