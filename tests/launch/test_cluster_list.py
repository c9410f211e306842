"""`nblb ls`: running, dead and stopped clusters of this account, and those that it has joined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nblb import cli
from nblb.access import connection_file
from nblb.launch import cluster_list
from nblb.launch.cluster_list import listed, since_text
from nblb.parameters import Parameters, load
from nblb.system import state_mark


def rows_of(parameters: Parameters) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in listed(parameters)}


def test_a_running_cluster_and_one_that_is_stopped(cluster: Any, capsys: Any) -> None:
    parameters = cluster.parameters
    state_mark.claim(parameters.state_dir.parent / "old")
    rows = rows_of(parameters)
    row = rows[cluster.name]
    status = cluster.status()
    assert (row["state"], row["pid"], row["workers"]) == ("running", status.core.pid, status.workers)
    assert row["where"] == str(parameters.state_dir)
    assert since_text(row).startswith("20")
    assert rows["old"]["state"] == "stopped"
    source = str(parameters.runtime_dir / "parameters.json")
    assert cli.main(["ls", "--json", "-p", source]) == 0
    assert cluster.name in [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert cli.main(["ls", "-p", source]) == 0
    assert "running" in capsys.readouterr().out
    found = [row["name"] for row in listed(load({"LB_STATE_DIR": str(parameters.state_dir.parent.parent / "x" / "y")}))]
    assert cluster.name in found  # by its process, from wherever its state folder is


def test_a_dead_core_and_a_cluster_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(tmp_path / "run"))
    parameters = load({"LB_STATE_DIR": str(tmp_path / "a" / "gone"), "LB_NAME": "gone"})
    parameters.runtime_dir.mkdir(parents=True)
    about = {"name": "gone", "pid": 2**22 + 7, "state_dir": str(parameters.state_dir), "started_at": 1.0}
    parameters.connection_file.write_text(json.dumps(about))
    joined = tmp_path / "lab.json"
    joined.write_text("{}")
    monkeypatch.setattr(connection_file, "known", lambda role="": {"lab": joined})
    rows = rows_of(parameters)
    assert rows["gone"]["state"] == "dead"
    assert "is gone" in rows["gone"]["note"]
    assert (rows["lab"]["state"], rows["lab"]["joined"]) == ("away", True)
    assert rows["lab"]["note"]
    assert cluster_list.ORDER.index("away") < cluster_list.ORDER.index("dead")
