"""`nblb bench` on a real cluster: every case yields figures, and nothing remains on the cluster."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from nblb.bench import machine
from nblb.bench.cases import CASES
from nblb.bench.on_cluster import NAME, OnCluster, OutOfTime
from nblb.bench.report import TITLES
from nblb.bench.runner import NAMES, PLANS, run
from nblb.bench.system import TINY
from nblb.client import open_clusters
from nblb.errors import NblbError
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


def nothing_there(cluster: Cluster) -> bool:
    status = cluster.status()
    return (status["queued"], status["running"], list(cluster.jobs())) == (0, 0, [])


def test_every_case_has_a_title_and_a_plan() -> None:
    assert set(TITLES) == set(NAMES)
    assert set(PLANS) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_every_case_gives_figures(case: str, cluster: Cluster) -> None:
    system = OnCluster(cluster, 2)
    figures: dict[str, float] = CASES[case](system, TINY)
    assert figures
    assert all(value > 0 for value in figures.values())
    system.clean()
    wait_until(lambda: nothing_there(cluster), 10, "tasks and jobs to be gone")


def test_a_run_says_where_the_time_goes_and_leaves_nothing(cluster: Cluster) -> None:
    heard: list[str] = []
    report = run(cluster, 60.0, cases=["startup", "latency", "map_default"], full=TINY, tell=heard.append)
    assert heard == ["this machine without nblb", "startup", "latency", "map_default"]
    assert open_clusters.known() is cluster
    latency = report.cases[1]
    assert latency.usage is not None
    assert latency.usage.commits > 0
    assert all(latency.usage.cpu_s[part] > 0 for part in ("client", "core", "hub", "workers"))
    assert "processor time in us" in latency.limit
    assert report.figure("startup", "seconds") is not None
    assert set(report.best) == {"round_trip_us", "copy_MiB_per_s", "write_MiB_per_s", "commit_us"}
    assert json.loads(json.dumps(report.as_dict()))["cases"][1]["case"] == "latency"
    assert TITLES["map_default"] in report.text()
    wait_until(lambda: nothing_there(cluster), 10, "tasks and jobs to be gone")


def test_what_is_interrupted_is_cancelled(cluster: Cluster) -> None:
    def stop(name: str) -> None:
        if name == "submit":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster, 60.0, cases=["map_default", "submit"], full=TINY, tell=stop)
    wait_until(lambda: nothing_there(cluster), 10, "tasks and jobs to be gone")


def test_busy_workers_are_not_waited_for_for_ever(cluster: Cluster) -> None:
    system = OnCluster(cluster, 2)
    system.until = time.monotonic() + 0.2
    futures = [system.submit(time.sleep, 60) for _ in range(4)]
    with pytest.raises(OutOfTime):
        system.gather(futures)
    with pytest.raises(OutOfTime):
        system.map(time.sleep, [60] * 4)
    rows: list[dict[str, Any]] = [dict(row) for row in cluster.workers()]
    assert {row["task_name"] for row in rows} == {NAME}
    system.clean()
    wait_until(lambda: nothing_there(cluster), 10, "tasks and jobs to be gone")


def test_mistakes_are_said_before_anything_runs(cluster: Cluster) -> None:
    with pytest.raises(NblbError, match="no case 'speed'; there are startup, latency"):
        run(cluster, cases=["speed"])
    with pytest.raises(NblbError, match="no worker takes tasks of priority 2000; those of cluster t take 0 to 1000"):
        run(cluster, priority=2000)
    cluster.scale(0)
    wait_until(lambda: not cluster.workers(), 10, "no workers")
    with pytest.raises(NblbError, match="has no workers"):
        run(cluster)


def test_the_machine_is_described() -> None:
    said = machine.describe()
    assert said["cores"] >= 1
    assert said["processor"]
    assert machine.bare_round_trip_us(20) > 0
