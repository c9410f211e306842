"""Requested settings that are not in force are reported: at the start, on the card, by status."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import nblb as lb
from nblb import launch
from nblb.cli import main
from nblb.errors import ParametersError
from nblb.host import account
from nblb.hub.worker_hub import WorkerHub
from nblb.launch import cluster_processes, notes
from nblb.launch.cluster_processes import StartWarning
from nblb.notebook.cards import view_model
from nblb.parameters import load
from tests.waiting import wait_until

GROUP = {"nWorkers": 1, "minP": 0, "maxP": 1000}


@contextmanager
def started(settings: dict[str, Any], **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """A cluster, and the warnings of its start."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            cluster = launch.start(settings, **{"monitor": False, **options})
            yield cluster, [str(one.message) for one in caught if one.category is StartWarning]
        finally:
            launch.stop(settings)


def test_an_unremarkable_start_says_nothing(settings: dict[str, Any]) -> None:
    with started(settings) as (cluster, said):
        assert said == cluster.notes == []
        with started(settings, workers=2) as (again, said):
            assert said == again.notes == []


@pytest.mark.parametrize("use", [launch.start, launch.connect, lb.startAll, launch.add_hub, WorkerHub])
def test_another_computer_is_refused(settings: dict[str, Any], use: Any) -> None:
    with pytest.raises(ParametersError, match=r"LB_IP is '192\.0\.2\.7', which is no address of this computer.*leave"):
        use(settings | {"LB_IP": "192.0.2.7"})
    assert "192.0.2.7" in lb.Client(settings | {"LB_IP": "192.0.2.7"}).sendTask("X", {})["error"]


def test_a_pyzmq_that_encrypts_slowly_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmq.pyzmq_version_info", lambda: (27, 2, 0))
    assert notes.address(load({"LB_IP": "127.0.0.1"})) == ""
    assert "40 MiB/s" in notes.address(load({"LB_IP": "192.0.2.7"}))


def test_a_cluster_without_security_is_warned_of_at_each_start(
    settings: dict[str, Any], parameters_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(settings | {"LB_SECURITY": "none"}) as (cluster, said):
        (sentence,) = said
        assert f"every account of this computer can run code as {account()}" in sentence
        assert sentence in view_model.cluster(cluster.snapshot())["notes"]
        log = cluster.status().state_dir + "/logs/core.log"
        assert f"LB - WARNING : {sentence}" in Path(log).read_text()
        with started(settings) as (again, said):  # whatever this caller's parameters say
            assert sentence in said
            assert sentence in again.notes
            assert sentence in launch.connect(settings).notes
            assert main(["status", "-p", parameters_file]) == 0
            assert sentence in capsys.readouterr().out


def test_settings_that_the_running_processes_do_not_have(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(settings | {"LB_PREFETCH_MS": 30, "WKHUB_WORKERS": [GROUP]}))
    try:
        launch.start(path, monitor=False).close()
        path.write_text(
            json.dumps(settings | {"LB_PREFETCH_MS": 50, "WKHUB_WORKERS": [GROUP, GROUP], "LB_ON_INTERRUPT": "kill"})
        )
        with started(settings | json.loads(path.read_text())) as (cluster, said):
            core, hub = said
            assert "the running core" in core
            assert "LB_PREFETCH_MS was 30.0 and is 50.0 now" in core
            assert "LB_ON_INTERRUPT" not in core, "the notebook itself goes by it"
            assert "the running hub" in hub
            assert "WKHUB_WORKERS was" in hub
            card = view_model.cluster(cluster.snapshot())
            assert said[0] in card["notes"]
            status = subprocess.run(
                [sys.executable, "-m", "nblb", "status", "-p", str(path)], capture_output=True, text=True
            )
            assert "LB_PREFETCH_MS was 30.0 and is 50.0 now" in status.stdout, status.stderr
    finally:
        launch.stop(path)


def test_workers_of_a_start_are_for_the_hub_that_runs_too(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(settings) as (first, _), started(settings, workers=3) as (cluster, said):
        assert ["had 2 workers, and gets 3" in sentence for sentence in said] == [True]
        assert said[0] in cluster.notes, "it is news …"
        wait_until(lambda: cluster.status().workers == 3, 20, "the third worker")
        monkeypatch.setattr(cluster_processes, "CHANGE_SHOWN_S", 0.0)
        assert said[0] not in cluster.notes, "… and later none"
        first.add_hub(workers=1)
        with started(settings, workers=1) as (_, said):
            assert ["2 hubs with 4 workers run here already" in sentence for sentence in said] == [True]


def test_a_monitor_whose_port_is_taken_is_on_the_next(settings: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings["MONITOR_PORT"] = port
        with started(settings, monitor=True) as (cluster, said):
            (sentence,) = said
            assert f"MONITOR_PORT {port} is taken" in sentence
            wait_until(lambda: cluster.monitor_url, 30, "the Monitor")
            other = int(cluster.monitor_url.rstrip("/").rpartition(":")[2])
            assert port < other
            assert f"is on port {other}" in sentence
            assert cluster.monitor_trouble == ""


def test_a_monitor_that_had_to_move_later_is_told_once(settings: dict[str, Any]) -> None:
    settings["MONITOR_PORT"] = free_port()
    other = settings | {"LB_NAME": "other", "LB_STATE_DIR": f"{settings['LB_STATE_DIR']}-other"}
    with started(settings, monitor=True) as (first, _), started(other, monitor=True) as (second, _):
        wait_until(lambda: first.monitor_url and second.monitor_url, 60, "both Monitors")
        moved = [sentence for cluster in (first, second) for sentence in cluster.notes if "is on port" in sentence]
        assert len(moved) == 1  # whichever was slower


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_monitor_that_is_refused_says_so(settings: dict[str, Any]) -> None:
    settings["MONITOR_IP"] = "0.0.0.0"
    with started(settings, monitor=True) as (cluster, said):
        assert said == cluster.notes
        assert ["no Monitor: MONITOR_IP is 0.0.0.0" in sentence for sentence in said] == [True]
        assert "MONITOR_IP is 0.0.0.0" in cluster.monitor_trouble
        assert "MONITOR_IP is 0.0.0.0" in (load(settings).state_dir / "logs" / "monitor.log").read_text()


def test_why_a_monitor_has_ended_is_known(settings: dict[str, Any]) -> None:
    log = notes.monitor_log(load(settings))
    log.parent.mkdir(parents=True)
    log.write_text("Monitor on http://x\n")
    assert notes.monitor_trouble(load(settings)) == ""
    log.write_text("nblb: MONITOR_PORT 9 on 127.0.0.1 cannot be used (taken)\n")
    assert notes.monitor_trouble(load(settings)) == "no Monitor: MONITOR_PORT 9 on 127.0.0.1 cannot be used (taken)"
