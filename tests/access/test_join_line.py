"""The line of an invitation: written and read again, and refused without repeating its secret."""

from __future__ import annotations

import os

import pytest

from nblb.access.join_line import JoinLine, parsed, written
from nblb.access.secret import Secret
from nblb.errors import NblbError


@pytest.mark.parametrize("host", ["198.18.77.1", "lab.example.org", "fd00::1"])
def test_there_and_back(host: str) -> None:
    keys = os.urandom(32), os.urandom(32)
    line = written(host, 9010, "lab", *keys)
    assert parsed(line) == (host, 9010, "lab", *keys)
    assert parsed(f"  nblb join {line}\n") == (host, 9010, "lab", *keys)
    assert all(letter.isalnum() or letter in ":/[]._-" for letter in line), "a shell needs no quotes"


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_wrong_port(port: str) -> None:
    line = written("h", 1, "lab", bytes(32), bytes(32)).replace(":1/", f":{port}/")
    with pytest.raises(NblbError, match="port"):
        parsed(line)


def test_a_wrong_line_is_not_repeated() -> None:
    line = written("h", 9010, "lab", bytes(32), b"s" * 32)
    with pytest.raises(NblbError) as caught:
        parsed(line[:-1])
    assert line[-20:-1] not in str(caught.value)


def test_an_address() -> None:
    assert JoinLine("fd00::1", 9010, "lab", "k" * 40, Secret("s")).address == "tcp://[fd00::1]:9010"
    assert "s" * 40 not in repr(JoinLine("h", 1, "lab", "k", Secret("s" * 40)))
