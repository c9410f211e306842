"""The launchers and engines that pass the conformance suite: how each gets a hub, and what it can do."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nblb as lb
from nblb import launch
from nblb.engines.engine import CAPABILITIES
from tests import slurm
from tests.end_to_end import test_ssh_hubs

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.executor import Executor
    from nblb.parameters import Parameters

ALL = frozenset(CAPABILITIES)
WORKERS = 2
INNER = "NBLB_TEST_INNER_CORE"  # the parameters of the core behind `inner_core`


@dataclass(frozen=True)
class Place:
    """A way to run the tasks of a hub.

    `options` are those of `cluster.add_hub`, `missing` says why it cannot be tested here, and `around` is entered
    before the core starts: it may change the core's parameters.
    """

    name: str
    options: dict[str, Any]
    capabilities: frozenset[str] = ALL
    missing: Callable[[], str] = lambda: ""
    around: Callable[[Parameters], contextlib.AbstractContextManager[Parameters]] = contextlib.nullcontext

    def __str__(self) -> str:
        return self.name


def _no_dask() -> str:
    return "" if importlib.util.find_spec("distributed") else "Dask is not installed: pip install 'nblb[dask]'"


@contextlib.contextmanager
def _slurm(parameters: Parameters) -> Iterator[Parameters]:
    with slurm.running() as variables:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield parameters.changed(LB_IP=slurm.address())
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _second_core(parameters: Parameters) -> Iterator[Parameters]:
    inner = parameters.changed(LB_NAME="inner", LB_STATE_DIR=f"{parameters.state_dir}-inner")
    cluster = lb.start(inner, workers=WORKERS, monitor=False)
    cluster.close()
    os.environ[INNER] = str(inner.runtime_dir / "parameters.json")
    try:
        yield parameters
    finally:
        del os.environ[INNER]
        launch.stop(inner)


def inner_core() -> Executor:
    """Return an executor of the second core; the engine of the place "core"."""
    cluster: Cluster = lb.connect(os.environ[INNER])
    executor: Executor = cluster.executor()
    return executor


PLACES = (
    Place("processes", {}),
    Place("ssh", {"host": "lab2"}, missing=test_ssh_hubs.why_not),
    Place(
        "slurm",
        {"slurm": "--partition=main --time=10 --mem=1000 --cpus-per-task=1"},
        missing=slurm.missing,
        around=_slurm,
    ),
    Place(
        "executor",
        {"engine": "concurrent.futures:ProcessPoolExecutor"},
        frozenset({"cancel_queued", "scale"}),
    ),
    Place("core", {"engine": f"{__name__}:inner_core"}, frozenset({"cancel_queued", "interrupt"}), around=_second_core),
    Place(
        "dask",
        {"engine": "dask"},
        frozenset({"cancel_queued", "kill", "progress", "output", "scale"}),
        missing=_no_dask,
    ),
)
