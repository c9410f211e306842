"""A hub that is cut off: detected in time, its work done elsewhere, its own attempt stopped, never two results.

The network is a proxy between two runtime folders (proxy.py), which can be had everywhere; test_network.py does the
same with a real one. NBLB_PARTITION_S=1 runs it with the default times (suspect after 5 s, lost after 15 s).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nblb import launch
from tests.end_to_end.partition_rig import LEASE_S, SLACK_S, TIMES, begun, elsewhere, hub, lines, run
from tests.end_to_end.proxy import Proxy
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | TIMES | {"WKHUB_WORKERS": [{"nWorkers": 1}]}


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
    with elsewhere(parameters, runtime_base) as (folder, environment):
        proxy = Proxy(folder / "hubs.local", parameters.runtime_dir / "hubs.local")
        try:
            with hub(cluster, parameters, environment):
                yield proxy
        finally:
            proxy.close()


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
    cut_at = time.monotonic()
    CUTS[cut](far)
    wait_until(lambda: len(begun(path)) == 2, 2 * LEASE_S + SLACK_S)
    noticed_s = time.monotonic() - cut_at
    assert noticed_s <= LEASE_S + SLACK_S, f"it took {noticed_s:.1f} s"
    first, second = begun(path)
    # The far hub has stopped its own attempt before the core gave it to the other.
    said = lines(path)
    assert f"stop {first}" in said[: said.index(f"begin {second}")], said
    if broken:
        far.reset()
    far.mend()
    assert future.result(60) == second
    wait_until(lambda: sorted(row.workers for row in cluster.hubs()) == [1, 1], 20, "the far hub to be back")
    assert future.attempt == 2
    jobs = [run.submit(str(tmp_path / str(n)), 0.01) for n in range(20)]
    assert all(job.result(60) for job in jobs)
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
    again = cluster.attach(job.job_id).results(60)
    assert again == names
