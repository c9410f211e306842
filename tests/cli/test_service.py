"""`nblb service`: what it installs for a core here, and for a hub of a cluster elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nblb.access import connection_file
from nblb.access.connection_file import ConnectionFile
from nblb.access.secret import Secret
from nblb.cli import main
from nblb.launch.service import systemd


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An account with a home of its own, on a computer without systemd."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(systemd, "RUNNING", tmp_path / "nowhere")
    (tmp_path / "lab.json").write_text(json.dumps({"LB_NAME": "lab", "LB_CLIENTPULLPORT": 9405}))
    return tmp_path


def service(*words: str) -> int:
    return main(["service", *words])


def units(lab: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (lab / "config/systemd/user").glob("*")}


def test_a_core_here(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert service("install", "--user", "-p", str(lab / "lab.json")) == 0
    (text,) = units(lab).values()
    assert f"nblb core --parameters {lab}/lab.json" in text
    assert f"Environment=XDG_STATE_HOME={lab}/state" in text
    said = capsys.readouterr().out
    assert "systemctl --user enable --now nblb-lab-core.service" in said
    assert "linger" in said
    assert service("status", "-p", str(lab / "lab.json")) == 0
    assert "nblb-lab-core.service" in capsys.readouterr().out
    assert service("uninstall", "--user", "-p", str(lab / "lab.json")) == 0
    assert units(lab) == {}
    assert service("uninstall", "--user", "-p", str(lab / "lab.json")) == 1
    assert service("status") == 1


def test_a_core_that_listens_and_its_companions(lab: Path) -> None:
    words = ["install", "--user", "-p", str(lab / "lab.json"), "--listen", "192.0.2.7"]
    assert (
        service(*words, "--role", "core", "--role", "hub", "--role", "monitor", "--workers", "3", "--only", "anna") == 0
    )
    found = units(lab)
    assert set(found) == {f"nblb-lab-{role}.service" for role in ("core", "hub", "monitor")}
    assert "--workers 3 --only anna" in found["nblb-lab-hub.service"]
    assert "After=nblb-lab-core.service" in found["nblb-lab-hub.service"]
    (written,) = (lab / "state/nblb/services").glob("*.json")
    assert json.loads(written.read_text())["LB_IP"] == "192.0.2.7"
    assert written.stat().st_mode & 0o077 == 0


def test_a_hub_of_a_cluster_that_was_joined(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = Secret("s" * 40)
    file = ConnectionFile("far", "hub", "gpu1", "192.0.2.9", 9010, 9011, "k" * 40, "p" * 40, key)
    file.save(connection_file.path_of("far", "hub"))
    assert service("install", "--user", "--cluster", "far", "--workers", "2") == 0
    (text,) = units(lab).values()
    assert "nblb hub --cluster far --workers 2" in text
    assert "s" * 40 not in text
    assert service("install", "--user", "--cluster", "far", "--role", "core") == 1
    assert "only a hub of it" in capsys.readouterr().err
    assert service("install", "--user", "--system") == 1
