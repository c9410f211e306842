"""A core makes again the files by which it is found, once a second, and ends with its state folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb.broker.discovery import GONE_S, Discovery
from nblb.broker.journal.state_folder import StateFolder
from nblb.parameters import Parameters
from nblb.system.core_file import read_core_file, read_lock_file
from nblb.transport.doors import Doors
from tests.transport.conftest import dial
from tests.transport.parties import AnyLine, greet

__all__ = ["dial"]


class Kept:
    """The files of a core, and a clock."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters, self.now = parameters, 0.0
        self.log: list[tuple[str, str]] = []
        self.folder = StateFolder(parameters.state_dir, parameters.name)
        self.doors = Doors(parameters)
        self.doors.open()
        self.discovery = Discovery(parameters, self.folder, self.doors, self.about, lambda *line: self.log.append(line))
        self.discovery.publish()

    def about(self) -> dict[str, Any]:
        return {
            "name": self.parameters.name,
            "addresses": self.doors.addresses,
            "runtime_dir": str(self.doors.folder),
            "state_dir": str(self.parameters.state_dir),
        }

    def keep(self, seconds: float = 1.0) -> str:
        self.now += seconds
        return self.discovery.keep(self.now)

    def sockets(self) -> list[Path]:
        return sorted(path for path in self.parameters.runtime_dir.iterdir() if path.is_socket())


@pytest.fixture
def kept(parameters: Parameters) -> Iterator[Kept]:
    kept = Kept(parameters)
    yield kept
    kept.discovery.withdraw()
    kept.doors.close()
    kept.folder.close()


def remove_all(kept: Kept) -> None:
    shutil.rmtree(kept.parameters.runtime_dir)


def remove_sockets(kept: Kept) -> None:
    for path in kept.sockets():
        path.unlink()


def replace_sockets(kept: Kept) -> None:
    for path in kept.sockets():
        path.unlink()
        path.touch()


@pytest.mark.parametrize("cleaner", [remove_all, remove_sockets, replace_sockets])
def test_connections_go_on_and_new_ones_come(
    kept: Kept, dial: Callable[..., AnyLine], cleaner: Callable[[Kept], None]
) -> None:
    before = kept.sockets()
    line = dial(kept.doors.addresses["clients"])
    old = greet(kept.doors, line)
    for _ in range(2):
        cleaner(kept)
        left = kept.sockets() if kept.parameters.runtime_dir.exists() else []
        assert kept.keep() == ""
        assert (kept.sockets() if kept.parameters.runtime_dir.exists() else []) == left, "made while it is removed"
        assert kept.keep() == ""
        while kept.sockets() != before:  # ZeroMQ's are bound after the old ones are closed
            assert kept.keep(1.0) == ""
            assert kept.now < 30
        other = dial(kept.doors.addresses["clients"])
        assert greet(kept.doors, other) != old
        greet(kept.doors, line)
        other.close()
        assert kept.keep() == ""
    assert any("RESTORED" in text for _, text in kept.log)
    assert kept.keep() == ""
    number = len(kept.log)
    assert kept.keep() == ""
    assert len(kept.log) == number, "nothing was to be restored"


def test_core_json_and_the_record_say_the_same(kept: Kept) -> None:
    path = kept.parameters.connection_file
    path.unlink()
    for seconds in (1.0, 0.5, 1.0):
        assert not path.exists()
        assert kept.keep(seconds) == ""
    core = read_core_file(path)
    record = read_lock_file(kept.parameters.state_dir / "lock")[1]
    assert core is not None
    assert record is not None
    assert core.addresses == record["addresses"] == kept.doors.addresses
    path.write_text(json.dumps({"pid": 1}))
    kept.keep()
    kept.keep()
    assert json.loads(path.read_text())["name"] == "t"
    kept.discovery.withdraw()
    record = read_lock_file(kept.parameters.state_dir / "lock")[1]
    assert record is not None
    assert record["addresses"] == {}
    assert not path.exists()


def test_a_file_that_cannot_be_made_is_reported_once(kept: Kept) -> None:
    folder = kept.parameters.runtime_dir
    shutil.rmtree(folder)
    folder.touch()
    for _ in range(4):
        assert kept.keep() == ""
    assert [level for level, _ in kept.log] == ["error"]
    folder.unlink()
    kept.keep()
    kept.keep()
    assert kept.log[-1][0] == "warning"
    assert kept.parameters.connection_file.exists()


def test_without_its_state_folder_the_core_ends_after_a_while(kept: Kept) -> None:
    place = kept.parameters.state_dir
    place.rename(place.with_name("moved"))
    assert kept.keep() == ""
    assert kept.keep(GONE_S - 1) == ""
    assert "has been removed or replaced" in kept.keep(2)
    place.with_name("moved").rename(place)
    assert kept.keep() == ""


def test_the_core_waits_no_longer_than_until_it_looks(kept: Kept) -> None:
    assert kept.discovery.deadline == 0.0
