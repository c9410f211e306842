"""The checks of this computer and account: each finds the trouble that it is for, and says what to do."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from nblb.access import connection_file
from nblb.access.connection_file import ConnectionFile
from nblb.access.key_file import KeyFile
from nblb.access.secret import Secret
from nblb.launch.doctor import computer
from nblb.launch.doctor.finding import Finding
from nblb.launch.service.systemd import UnitState
from nblb.parameters import Parameters, load


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parameters:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return load({"LB_STATE_DIR": str(tmp_path / "state"), "LB_IP": "192.0.2.1"})


def levels(found: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in found]


def only(found: Iterable[Finding], level: str) -> str:
    """The text of the one finding of this level."""
    (text,) = [finding.text for finding in found if finding.level == level]
    return text


def test_a_sound_computer(lab: Parameters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=100 << 30))
    found = [*computer.versions(), *computer.limits(lab), *computer.file_systems(lab), *computer.proxies(lab, {})]
    assert set(levels(found)) == {"ok"}, found
    assert str(found[0]).startswith("ok    versions")


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: (4, 3, 2))
    assert "has known faults" in only(computer.versions(), "fail")
    monkeypatch.undo()
    monkeypatch.setattr(zmq, "pyzmq_version_info", lambda: (26, 0, 0))
    assert "encrypts at about 40 MiB/s" in only(computer.versions(), "warn")


def test_limits(lab: Parameters, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {resource.RLIMIT_NOFILE: (256, 256), resource.RLIMIT_NPROC: (100, 100)}
    monkeypatch.setattr(resource, "getrlimit", small.__getitem__)
    monkeypatch.setattr(computer.cgroup, "memory_bytes", lambda: 512e6)
    texts = " ".join(finding.text for finding in computer.limits(lab) if finding.level == "warn")
    assert "256 files" in texts
    assert "100 processes" in texts
    assert "488 MiB of memory" in texts


@pytest.mark.parametrize(("free", "level"), [(100 << 20, "fail"), (1 << 30, "warn"), (100 << 30, "ok")])
def test_disk(lab: Parameters, free: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    assert [finding.level for finding in computer.limits(lab) if finding.subject == "disk"] == [level]


def test_a_state_folder_on_a_server_of_files(lab: Parameters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computer, "network_file_system", lambda _path: "nfs4")
    assert "network file system (nfs4)" in only(computer.file_systems(lab), "warn")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot write" in only(computer.file_systems(lab), "fail")


def test_proxies(lab: Parameters) -> None:
    found = list(computer.proxies(lab, {"http_proxy": "http://p:3128"}))
    assert levels(found) == ["warn", "warn"]
    assert "must be reachable directly" in found[0].text
    assert "add it to no_proxy" in found[1].text
    here = load({})
    assert levels(computer.proxies(here, {"HTTPS_PROXY": "p", "no_proxy": "localhost, 127.0.0.1"})) == []


def test_keys_of_the_core(lab: Parameters) -> None:
    file = KeyFile(lab.state_dir)
    now = time.time()
    file.store.invite("i" * 40, "anna", "user", now, 3600.0)
    file.store.enrol("i" * 40, "a" * 40, now)
    file.store.change("anna", ("user",), until=now + 86400.0)
    file.save()
    found = list(computer.keys(lab))
    assert "'anna' expires in 1.0 days" in only(found, "warn")
    assert any("1 valid keys" in finding.text for finding in found)
    file.path.chmod(0o644)
    texts = [finding.text for finding in computer.keys(lab) if finding.level == "fail"]
    assert "other accounts can read keys.json" in texts[0]


def test_keys_of_clusters_that_were_joined(lab: Parameters) -> None:
    def joined(cluster: str) -> ConnectionFile:
        key = Secret("s" * 40)
        file = ConnectionFile(cluster, "user", "anna", "192.0.2.9", 1, 2, "k" * 40, "p" * 40, key)
        return file.save(connection_file.path_of(cluster, "user"))

    joined("good")
    joined("left").note_refusal("it was revoked (left)")
    joined("open").path.chmod(0o644)
    found = list(computer.keys(lab))
    assert sorted(levels(found)) == ["fail", "ok", "warn"]
    assert "chmod 600" in only(found, "fail")
    assert "it was revoked (left)" in only(found, "warn")


def test_units(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[UnitState] = []

    class Stand:
        def __init__(self, is_system: bool) -> None:
            self.is_system = is_system

        def units(self) -> list[UnitState]:
            return [unit for unit in installed if unit.is_system == self.is_system]

    def found(*units: UnitState, **facts: Any) -> list[Finding]:
        installed[:] = units
        monkeypatch.setattr(computer, "lingers", lambda _account: facts.get("lingers", True))
        monkeypatch.setattr(computer, "ends_sessions", lambda: facts.get("kills", False))
        return list(computer.units())

    monkeypatch.setattr(computer, "Systemd", Stand)
    own = UnitState("nblb-lab-core.service", Path("x"), False, "enabled", "active")
    assert levels(found(own)) == ["ok"]
    assert "loginctl enable-linger" in only(found(own, lingers=False), "warn")
    assert "--user status" in only(found(own._replace(active="failed")), "fail")
    assert "systemctl enable" in only(found(own._replace(is_system=True, enabled="disabled")), "warn")
    assert "KillUserProcesses=yes" in only(found(kills=True), "warn")
    assert levels(found()) == ["ok"]
