"""A hub that is cut off: seen in time, its work done elsewhere, its own attempt stopped, and never two results.

Hubs dial a Unix socket until computers have keys, so the network is a proxy between two runtime folders
(proxy.py). NBLB_PARTITION_S=1 runs it with the default times (suspect after 5 s, lost after 15 s).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from nblb.launch.processes import hand_over
from tests.end_to_end.proxy import Proxy
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

SCALE = float(os.environ.get("NBLB_PARTITION_S", "0.1"))
LEASE_S = 15 * SCALE


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    times = {"LB_HEARTBEAT_S": 1 * SCALE, "LB_SUSPECT_S": 5 * SCALE, "LB_LEASE_S": LEASE_S}
    return settings | times | {"WKHUB_WORKERS": [{"nWorkers": 1}]}


@pytest.fixture
def cluster(parameters: Parameters) -> Iterator[Cluster]:
    """A core alone."""
    try:
        yield launch.start(parameters, workers=0, monitor=False)
    finally:
        launch.stop(parameters)


@pytest.fixture
def far(cluster: Cluster, parameters: Parameters, runtime_base: Path) -> Iterator[Proxy]:
    """A hub on "another computer": its runtime folder has a proxy in the place of the core's door."""
    base = Path(tempfile.mkdtemp(dir=runtime_base))
    folder = base / parameters.runtime_dir.name
    folder.mkdir(mode=0o700)
    proxy = Proxy(folder / "hubs.local", parameters.runtime_dir / "hubs.local")
    words = [sys.executable, "-m", "nblb", "hub", "--parameters", str(hand_over(parameters))]
    environment = os.environ | {"NBLB_RUNTIME_DIR": str(base), "PYTHONPATH": str(Path(__file__).parents[2])}
    hub = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: [row.pid for row in cluster.hubs() if row.workers] == [hub.pid], 20, "the hub")
        yield proxy
    finally:
        hub.terminate()
        try:
            hub.wait(10)
        finally:
            hub.kill()
            proxy.close()
            shutil.rmtree(base)


@lb.task
def run(path: str, seconds: float) -> str:
    """Says in a file who begins, who ends and who is stopped; the result names the run."""
    name = f"{os.getpid()}"
    if Path(path).exists():  # the second attempt need not take so long
        seconds = 0.1
    with open(path, "a") as file:
        file.write(f"begin {name}\n")
        file.flush()
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            file.write(f"stop {name}\n")
            raise
        file.write(f"end {name}\n")
    return name


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


CUTS: dict[str, Callable[[Proxy], None]] = {
    "cut": lambda proxy: proxy.cut(),
    "the core hears nothing": lambda proxy: proxy.cut(to_hub=False),
    "the hub hears nothing": lambda proxy: proxy.cut(to_core=False),
}


@pytest.mark.parametrize(("cut", "broken"), [*((cut, False) for cut in CUTS), ("cut", True)])
def test_the_work_of_a_hub_that_is_cut_off_is_done_elsewhere(
    cluster: Cluster, parameters: Parameters, far: Proxy, tmp_path: Path, cut: str, broken: bool
) -> None:
    path = tmp_path / "runs"
    future = run.submit(str(path), 60)
    wait_until(lambda: lines(path), 20, "the task to begin there")
    launch.add_hub(parameters)
    begun = time.monotonic()
    CUTS[cut](far)
    wait_until(lambda: len([line for line in lines(path) if line.startswith("begin")]) == 2, 2 * LEASE_S + 5)
    noticed_s = time.monotonic() - begun
    assert noticed_s <= LEASE_S + 1.5, f"it took {noticed_s:.1f} s"
    first, second = (line.split()[1] for line in lines(path) if line.startswith("begin"))
    # The hub stops its own attempt, at the latest a lease after the last word of a core that has given it up.
    wait_until(lambda: f"stop {first}" in lines(path), 2 * LEASE_S + 5, "the far hub to stop its attempt")
    if broken:
        far.reset()
    far.mend()
    assert future.result(60) == second
    wait_until(lambda: sorted(row.workers for row in cluster.hubs()) == [1, 1], 20, "the far hub to be back")
    assert future.attempt == 2
    jobs = [run.submit(str(tmp_path / str(n)), 0.01) for n in range(20)]
    assert all(job.result(20) for job in jobs)
    print(f"{cut}: done elsewhere {noticed_s:.1f} s after it (lease {LEASE_S:g} s)")


def test_a_connection_that_flaps_costs_no_task_and_gives_none_twice(
    cluster: Cluster, parameters: Parameters, far: Proxy, tmp_path: Path
) -> None:
    launch.add_hub(parameters)
    chance = random.Random(7)
    job = run.map([str(tmp_path / f"{n}") for n in range(120)], [0.03] * 120, chunksize=1)
    for _ in range(30):
        far.cut(chance.random() < 0.7, chance.random() < 0.7)
        time.sleep(chance.uniform(0, 2 * LEASE_S / 15))
        if chance.random() < 0.4:
            far.reset()
        far.mend()
        time.sleep(chance.uniform(0, LEASE_S / 15))
    names = job.results(60)
    for n, name in enumerate(names):
        assert f"end {name}" in lines(tmp_path / f"{n}")
    again = cluster.attach(job.job_id).results(20)
    assert again == names
