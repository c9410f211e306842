"""The file of a bound socket: known again, and removed only if it is still that one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from nblb.transport.socket_file import SocketFile


def bound(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    return one


def test_a_file_that_is_removed_or_replaced(runtime_base: Path) -> None:
    path = runtime_base / "one"
    with bound(path):
        file = SocketFile(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert file.is_at(path)
        assert not file.is_at(runtime_base / "other")
        path.rename(runtime_base / "kept")  # so that its inode is not used again
        assert not file.is_at(path)
        with bound(path):
            assert not file.is_at(path)
            file.remove()
            assert path.exists(), "another socket's"
        path.unlink()
        (runtime_base / "kept").rename(path)
        file.remove()
        assert not path.exists()
        with pytest.raises(FileNotFoundError):
            SocketFile(path)
