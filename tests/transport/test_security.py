"""Restrictions on listening: private folders, loopback, and the name of a process that occupies a port."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from nblb.errors import NblbError
from nblb.parameters import Parameters, load
from nblb.transport.doors import Doors
from tests.transport.parties import AnyLine, greet


def test_sockets_stand_in_a_private_folder(doors: Doors, parameters: Parameters) -> None:
    folder = parameters.runtime_dir
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {
        f"{name}{kind}" for name in ("clients", "hubs", "health") for kind in ("", ".local")
    }
    assert all(address.startswith(("ipc:///", "unix:///")) for address in doors.addresses.values())
    doors.close()
    assert not folder.exists()


def test_tcp_is_on_loopback_and_any_free_port_is_told(open_doors: Doors) -> None:
    for door in ("clients", "hubs", "health"):
        address = open_doors.addresses[f"{door}_tcp"]
        assert address.startswith("tcp://127.0.0.1:")
        assert int(address.rpartition(":")[2]) > 0


@pytest.mark.parametrize("ip", ["0.0.0.0", "8.8.8.8", "::", "no.such.host.invalid"])
def test_beyond_loopback_is_refused_with_the_reason(settings: dict[str, Any], ip: str) -> None:
    doors = Doors(load({**settings, "LB_SECURITY": "none", "LB_IP": ip}))
    with pytest.raises(NblbError, match="LB_IP"):
        doors.open()
    assert doors.addresses == {}


def test_a_taken_port_names_its_holder(settings: dict[str, Any], open_doors: Doors) -> None:
    port = int(open_doors.addresses["clients_tcp"].rpartition(":")[2])
    other = Doors(load({**settings, "LB_SECURITY": "none", "LB_NAME": "other", "LB_CLIENTPULLPORT": port}))
    with pytest.raises(NblbError, match=rf"LB_CLIENTPULLPORT: port {port} .* \(pid {os.getpid()}\)"):
        other.open()
    assert not other.parameters.runtime_dir.exists()
    file = open_doors.parameters.connection_file
    file.write_text(json.dumps({"name": "t", "pid": 77, "addresses": open_doors.addresses}))
    with pytest.raises(NblbError, match=r"by the core 't' \(pid 77\)"):
        other.open()
    file.unlink()


def test_sockets_of_a_core_that_was_killed_are_no_obstacle(
    parameters: Parameters, dial: Callable[..., AnyLine]
) -> None:
    code = (
        "import os, sys; from nblb.parameters import load; from nblb.transport.doors import Doors\n"
        "doors = Doors(load(eval(sys.argv[1]))); doors.open(); os._exit(9)"
    )
    settings = parameters.as_dict()
    assert subprocess.run([sys.executable, "-c", code, repr(settings)], timeout=60).returncode == 9
    doors = Doors(parameters)
    doors.open()
    try:
        greet(doors, dial(doors.addresses["clients"]))
    finally:
        doors.close()
