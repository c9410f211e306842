"""The checks of what is between computers, with real sockets here and a stand-in for the core's answers."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from nblb import launch
from nblb.launch.doctor import network
from nblb.launch.doctor.checks import all_findings
from nblb.parameters import Parameters, load


def texts(found: Any, level: str) -> str:
    return "\n".join(finding.text for finding in found if finding.level == level)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_no_core_and_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        parameters = load({"LB_STATE_DIR": str(tmp_path), "MONITOR_PORT": port})
        found = list(network.network(parameters, []))
    assert "'nblb start' starts one" in texts(found, "warn")
    assert f"MONITOR_PORT {port} on 127.0.0.1 is in use by" in texts(found, "warn")


def test_an_address_that_is_not_of_this_computer(tmp_path: Path) -> None:
    assert network._why_taken("192.0.2.1", 9999) == errno.EADDRNOTAVAIL
    assert network._why_taken("127.0.0.1", free_port()) == 0


def test_what_can_be_reached_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = {"clients": server.getsockname()[1], "bulk": free_port()}
        found = list(network._reach("127.0.0.1", ports, []))
    assert [finding.level for finding in found] == ["ok", "warn"]
    assert "Connection refused" in found[1].text
    assert "slowly" in found[1].text
    closed = list(network._told("lab2", "lab1", {"hubs": 5699}, {}))
    assert closed[0].level == "fail"
    assert "lab2 does not reach lab1 port 5699 (LB_WKPULLPORT): no answer" in closed[0].text
    assert "5699" in closed[0].text.rpartition(";")[2] or "firewall" in closed[0].text


def test_from_another_computer_over_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "ssh"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != python3 ]; do shift; done\nexec "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("NBLB_SSH", str(fake))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, closed = server.getsockname()[1], free_port()
        found = list(network._reach("127.0.0.1", {"clients": port, "hubs": closed}, ["anna@lab2"]))
    assert [finding.level for finding in found] == ["ok", "fail", "ok", "fail"]
    assert found[2].text.startswith("anna@lab2 reaches")
    fake.write_text("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n")
    assert "cannot be asked over ssh" in next(iter(network._reach("127.0.0.1", {}, ["lab2"]))).text


@pytest.mark.parametrize(("ahead_s", "level"), [(0.5, "ok"), (90.0, "warn"), (-90.0, "warn"), (7200.0, "fail")])
def test_clocks(ahead_s: float, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_address: str, topic: str) -> Any:
        if topic == "hubs":
            return [{"name": "old", "nblb": "0.0.1", "python": [3, 5]}]
        return {"started_at": time.time() - ahead_s - 100.0, "uptime_s": 100.0, "nblb": "0.0.2", "python": [3, 5]}

    monkeypatch.setattr(network.one_shot, "find", lambda _parameters: ("", None))
    monkeypatch.setattr(network.one_shot, "ask", ask)
    found = list(network._answers(load({})))
    assert found[0].level == level
    assert ("behind" if ahead_s < 0 else "ahead of" if level != "ok" else "differ") in found[0].text
    assert "hub old runs Python 3.5" in texts(found[1:], "fail")
    assert "core has nblb 0.0.2" in texts(found[1:], "warn")


def test_a_running_cluster_is_sound(parameters: Parameters) -> None:
    with launch.start(parameters, workers=1, monitor=False):
        found = all_findings(parameters)
    assert not texts(found, "fail")
    said = texts(found, "ok")
    assert "runs (pid" in said
    assert "differ by 0.0 s" in said
    assert "for this computer only" in said


def test_a_check_that_breaks_hides_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_parameters: Parameters) -> None:
        raise RuntimeError("no such thing here")

    monkeypatch.setattr("nblb.launch.doctor.computer.limits", broken)
    found = all_findings(load({"LB_STATE_DIR": str(tmp_path)}))
    assert "cannot be checked here: RuntimeError: no such thing here" in texts(found, "warn")
    assert any(finding.subject == "proxies" for finding in found)
