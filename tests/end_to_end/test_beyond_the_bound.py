"""Tasks beyond LB_QUEING_MAXPERUSER are kept: core and kernel may die, and each call runs once."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nblb as lb
from nblb import launch
from nblb.client.seed_client import Client
from tests.end_to_end.test_crashes import kill
from tests.waiting import all_accepted, wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

BOUND = 1000  # the default
KERNEL = """
import json, sys
import nblb as lb
from tests.end_to_end.test_beyond_the_bound import gated
from tests.waiting import all_accepted, wait_until
cluster = lb.connect(json.loads(sys.argv[1]))
alone = gated.options(timeout=100)  # each is a record of its own
futures = [(alone if x % 2 else gated).submit(sys.argv[2], x) for x in range(int(sys.argv[3]))]
wait_until(lambda: all_accepted(cluster), 60, "all to be accepted")
print("accepted", flush=True)
sys.stdin.read()
"""


@lb.task
def gated(folder: str, x: int) -> int:
    """Waits until the gate is open, and leaves a file."""
    while not (Path(folder) / "open").exists():
        time.sleep(0.01)
    with open(Path(folder) / f"ran {x}", "a") as file:
        file.write("x")
    return 3 * x


@lb.task
def triple(x: int) -> int:
    return 3 * x


def rows(cluster: Cluster, **about: Any) -> dict[str, Any]:
    found: dict[str, Any] = cluster.connection.ask("tasks", {"single": True, "limit": 10_000, **about})
    return found


def test_a_loop_of_submit_loses_nothing(cluster: Cluster) -> None:
    assert cluster.parameters.LB_QUEING_MAXPERUSER == BOUND
    futures = [triple.submit(x) for x in range(3 * BOUND)]
    alone = triple.options(timeout=60)
    futures += [alone.submit(x) for x in range(3 * BOUND, 5 * BOUND)]
    assert [future.result(60) for future in futures] == [3 * x for x in range(5 * BOUND)]


def test_what_waits_behind_the_bound_outlives_kernel_and_core(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    folder, number = tmp_path / "runs", 2 * BOUND
    folder.mkdir()
    words = [sys.executable, "-c", KERNEL, json.dumps(parameters.as_dict()), str(folder), str(number)]
    kernel = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == "accepted\n"
    finally:
        kernel.kill()
        kernel.communicate()
    kill(parameters, "core")
    launch.start(parameters, monitor=False).close()
    wait_until(lambda: cluster.connected and cluster.status().running == 2, 30, "the core to know again what runs")
    late = gated.submit(str(folder), number)
    urgent = gated.options(priority=10).submit(str(folder), number + 1)
    wait_until(lambda: all_accepted(cluster), 10, "the last ones to be accepted")
    assert "behind the 1,000 of one user that compete at once" in late.why()
    assert urgent.why().startswith("1st of ")
    waiting = rows(cluster, state="QUEUED")["rows"]
    assert sum(row["items"] for row in waiting) == number - 2 + 2
    assert late.cancel()
    refused = Client(parameters).sendTask("triple", {}, userid=cluster.user)
    assert refused == {"error": "User has too many pending task (1000)"}
    (folder / "open").touch()
    assert urgent.result(60) == 3 * (number + 1)
    expected = Counter({f"ran {x}": 1 for x in (*range(number), number + 1)})

    def ran() -> Counter[str]:
        return Counter({path.name: path.stat().st_size for path in folder.iterdir() if path.name != "open"})

    wait_until(lambda: ran() == expected, 90, "each call to have run once", 0.1)
    wait_until(lambda: cluster.status().queued == cluster.status().running == 0, 10, "all to have ended")
    assert ran() == expected


def test_executors_do_not_flood_the_list_of_jobs(cluster: Cluster) -> None:
    futures = [lb.executor().submit(abs, -x) for x in range(300)]
    assert len(cluster.jobs()) <= 2
    assert [future.result(60) for future in futures] == [*range(300)]
    with lb.executor() as executor:
        assert executor._max_workers == 2
        assert [*executor.map(abs, range(-50, 0))] == [*range(50, 0, -1)]
        assert len([job for job in cluster.jobs() if job.name == executor.name]) == 1
        error = executor.submit(threading.Lock).exception(30)  # a result that cannot be pickled
        assert isinstance(error, pickle.PicklingError)
    wait_until(lambda: not cluster.jobs(), 10, "the jobs of executors that are gone to be dropped")
