"""Groups of the parameters whose tasks run in an engine, beside one of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch

if TYPE_CHECKING:
    from nblb.parameters import Parameters

POOL = "concurrent.futures:ProcessPoolExecutor"


def groups_of(cluster: Any) -> list[tuple[str, int, float]]:
    return sorted((hub.engine, hub.workers, hub.groups[0]["minP"]) for hub in cluster.hubs())


def test_each_engine_has_a_hub_with_its_band(parameters: Parameters) -> None:
    here, pool = {"nWorkers": 1, "maxP": 4}, {"nWorkers": 2, "minP": 5, "engine": POOL}
    chosen = parameters.changed(WKHUB_WORKERS=[here, pool])
    with lb.start(chosen, monitor=False) as cluster:
        assert groups_of(cluster) == [(POOL, 2, 5.0), ("processes", 1, 0.0)]
        assert lb.task(abs).options(priority=9).submit(-3).result(60) == 3
        with lb.start(chosen, monitor=False) as again:  # finds both
            assert len(again.hubs()) == 2
            assert not again.notes
    assert not launch.stop(chosen)


def test_a_cluster_with_nothing_but_an_engine(parameters: Parameters) -> None:
    chosen = parameters.changed(WKHUB_WORKERS=[{"nWorkers": 1, "engine": POOL}])
    with lb.start(chosen, monitor=False) as cluster:
        assert groups_of(cluster) == [(POOL, 1, 0.0)]
        assert lb.task(abs).map([-1, -2]).results() == [1, 2]


def test_an_engine_that_cannot_be_loaded_is_a_note(parameters: Parameters) -> None:
    chosen = parameters.changed(WKHUB_WORKERS=[{"nWorkers": 1}, {"nWorkers": 1, "engine": "nowhere:make"}])
    with pytest.warns(launch.cluster_processes.StartWarning, match=r"no hub for WKHUB_WORKERS\[1\].*nowhere"):
        cluster = lb.start(chosen, monitor=False)
    with cluster:
        assert groups_of(cluster) == [("processes", 1, 0.0)]
