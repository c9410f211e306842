"""The systems by name, without importing them; a system that is not installed is reported as such."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A system: its adapter, the packages that it needs, and its settings."""

    title: str
    adapter: str  # module:class
    needs: str = ""  # the module to import
    distribution: str = ""
    how: str = ""
    swift: bool = True  # starts in about a second, so its repeats come first
    loopback_only: bool = False  # listens beyond loopback, so it gets a network namespace
    start_s: float = 1.0  # rough start time on a quiet machine, for the estimate of a run
    case_s: float = 1.5  # rough time of one of nblb.bench.cases
    alone: tuple[str, ...] = ()  # cases that need a start of their own, with other settings

    def load(self) -> type:
        module, name = self.adapter.split(":")
        found: type = getattr(importlib.import_module(f"tests.benchmarks.{module}"), name)
        return found

    @property
    def installed(self) -> bool:
        return not self.needs or importlib.util.find_spec(self.needs) is not None

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.distribution) if self.distribution and self.installed else ""


SYSTEMS = {
    "nblb": Entry("nblb", "clusters:Nblb", how="defaults (journal on, security on)", start_s=1.5),
    "bare": Entry(
        "bare pyzmq", "bare:Bare", "zmq", "pyzmq",
        "a broker of 40 lines that keeps, checks and repeats nothing: a limit, not a product",
    ),
    "processpool": Entry(
        "ProcessPool Executor", "pools:ProcessPool", how="concurrent.futures of the standard library"
    ),
    "loky": Entry("loky", "pools:Loky", "loky", "loky", "get_reusable_executor"),
    "interpreters": Entry(
        "Interpreter Pool", "pools:Interpreters", "concurrent.futures.interpreter",
        how="concurrent.futures of Python 3.14",
    ),
    "executorlib": Entry(
        "executorlib", "pools:Executorlib", "executorlib", "executorlib",
        "SingleNodeExecutor with block_allocation; it pins an older pyzmq, so it needs an environment of its own",
        swift=False, start_s=2.0, case_s=4.0,
    ),
    "joblib": Entry("joblib", "pools:Joblib", "joblib", "joblib", "one Parallel kept open, batch_size auto"),
    "mpire": Entry("mpire", "pools:Mpire", "mpire", "mpire", "keep_alive=True"),
    "dask": Entry(
        "Dask", "clusters:Dask", "distributed", "distributed",
        "LocalCluster, processes of one thread, no dashboard; chunks by hand", swift=False,
        start_s=6.0, case_s=4.5,
    ),
    "ipyparallel": Entry(
        "ipyparallel", "clusters:Ipyparallel", "ipyparallel", "ipyparallel",
        "load-balanced view, hwm 1 (its default); of hwm 1 and 2 the better for uneven tasks; push for constants",
        swift=False, start_s=10.0, case_s=5.0, alone=("closure", "constant_closure", "imbalance"),
    ),
    "hyperqueue": Entry(
        "HyperQueue", "clusters:HyperQueue", "hyperqueue", "hyperqueue",
        "LocalCluster with one worker of 2 cores, no journal; it returns no results", swift=False,
        start_s=1.0, case_s=0.5,
    ),
    "ray": Entry(
        "Ray", "clusters:Ray", "ray", "ray",
        "no dashboard, in a network namespace with nothing but loopback; chunks by hand", swift=False,
        loopback_only=True, start_s=14.0, case_s=2.5,
    ),
}  # fmt: skip
