"""`nblb bench`: runs the cases on a cluster, each as large as fits its share of the time, and explains the limits.

Other users may use the cluster meanwhile: the tasks are the user's own and called nblb-bench, the run takes half a
minute, and however it ends, its open tasks are cancelled and its jobs are forgotten.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from nblb.bench import machine
from nblb.bench.cases import CASES, CONSTANTS
from nblb.bench.limits import advise, explain
from nblb.bench.meters import Meter, Usage
from nblb.bench.on_cluster import OnCluster, OutOfTime
from nblb.bench.report import BenchReport, Measured
from nblb.bench.system import FULL, Impossible, Size
from nblb.bench.work import pid
from nblb.errors import NblbError
from nblb.host import cores

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

SECONDS = 30.0
PATIENCE = 4.0  # a case is given up after this many times its share of the time
LEAST_PATIENCE_S = 4.0


class GrowthPlan(NamedTuple):
    """The growth of a case: the size that grows, its first value, and the number of tasks for a size."""

    grows: str
    first: int
    tasks: Callable[[Size], int]


def _of_constants(size: Size) -> int:
    return min(CONSTANTS, size.echoes) * (size.sharing + 1) + 10


PLANS = {
    "latency": GrowthPlan("lone", 30, lambda s: s.lone + s.warm),
    "submit": GrowthPlan("submits", 200, lambda s: s.submits + 50),
    "map_default": GrowthPlan("items", 2_000, lambda s: s.items + 100),
    "map_chunked": GrowthPlan("items", 8_192, lambda s: len(s.chunks) * (s.items + 100)),
    "array_both_ways": GrowthPlan("mib", 8, lambda s: s.echoes + 10),
    "constant_argument": GrowthPlan("mib", 8, _of_constants),
    "constant_closure": GrowthPlan("mib", 8, _of_constants),
    "constant_put": GrowthPlan("mib", 8, _of_constants),
    "closure": GrowthPlan("closures", 50, lambda s: 2 * s.closures + 10),
    "imbalance": GrowthPlan("uneven", 20, lambda s: s.uneven),
}
NAMES = ("startup", *CASES)


def run(
    cluster: Cluster,
    seconds: float = SECONDS,
    priority: float = 0.0,
    cases: Iterable[str] = NAMES,
    full: Size = FULL,
    tell: Callable[[str], object] = lambda _: None,
) -> BenchReport:
    """Measures a running cluster, with no case larger than `full`; calls `tell` with each case's name first.

    Raises
    ------
    NblbError
        If no worker of the cluster takes tasks of this priority, or a case name is unknown.
    """
    chosen = list(cases)
    for name in chosen:
        if name not in NAMES:
            raise NblbError(f"there is no case {name!r}; there are {', '.join(NAMES)}")
    workers = _workers(cluster, priority)
    status = cluster.status()
    cluster_said = {key: status.get(key) for key in ("name", "workers", "hubs", "durability", "version", "host")}
    report = BenchReport(cluster_said, machine.describe(), {})
    tell("this machine without nblb")
    state_dir = Path(status.get("state_dir", "")) if status.get("host") == socket.gethostname() else None
    report.best = _best(state_dir, str(status.get("durability")))
    if "startup" in chosen:
        tell("startup")
        report.cases.append(_startup(cluster))
    bench = _Bench(cluster, workers, priority, _size(workers, full))
    begun = monotonic()  # the steps before take a few seconds and are not counted
    try:
        rest = [name for name in chosen if name != "startup"]
        for number, name in enumerate(rest):
            tell(name)
            left_s = begun + seconds - monotonic()
            report.cases.append(bench.measure(name, left_s, left_s / (len(rest) - number)))
    finally:
        bench.system.clean()
    for each in report.cases:
        each.limit = explain(each, report.best, cores())
    report.advice = advise(report, str(status.get("state_dir", "")))
    if bench.meter.unseen:
        report.advice.append("Processor time of hubs and workers on other machines is not in the shares above.")
    return report


def _workers(cluster: Cluster, priority: float) -> int:
    workers = cluster.workers()
    if not workers:
        raise NblbError(f"cluster {cluster.name} has no workers to measure; 'nblb hub' starts some here")
    able: int = sum(worker["minP"] <= priority <= worker["maxP"] for worker in workers)
    if not able:
        bands = sorted({(worker["minP"], worker["maxP"]) for worker in workers})
        listed = ", ".join(f"{low:g} to {high:g}" for low, high in bands)
        raise NblbError(
            f"no worker takes tasks of priority {priority:g}; those of cluster {cluster.name} take {listed}"
        )
    return able


def _size(workers: int, full: Size) -> Size:
    """A size that gives every worker its share and suits a cluster in use."""
    return replace(full, echoes=min(full.echoes, 3), uneven=full.uneven * max(1, workers // 10))


def _best(state_dir: Path | None, durability: str) -> dict[str, float]:
    best = {"round_trip_us": machine.bare_round_trip_us(), "copy_MiB_per_s": machine.copy_MiB_per_s()}
    with contextlib.suppress(OSError):  # the folder may belong to another account
        if state_dir is not None and durability != "none":
            best["write_MiB_per_s"] = machine.write_MiB_per_s(state_dir)
            best["commit_us"] = machine.commit_us(state_dir, durability)
    return best


def _startup(cluster: Cluster) -> Measured:
    """Starts another cluster for a second, in a temporary folder; `cluster` stays the current one."""
    from nblb import launch
    from nblb.client import open_clusters

    with tempfile.TemporaryDirectory(prefix="nblb-bench-") as folder:
        parameters = {"LB_NAME": "bench", "LB_STATE_DIR": f"{folder}/state", "WKHUB_WORKERS": []}
        begun = perf_counter()
        try:
            own = launch.start(parameters, workers=2, monitor=False)
            try:
                system = OnCluster(own, 2)
                seen: set[int] = set()
                while len(seen) < 2:
                    seen |= set(system.gather([system.submit(pid, n) for n in range(2)]))
                took = perf_counter() - begun
            finally:
                own.stop()
        except NblbError as error:
            return Measured("startup", word=f"failed: {error}")
        finally:
            open_clusters.use(cluster)
    return Measured("startup", {"seconds": took}, limit="four processes, each of which imports what it needs")


class _Bench:
    """Runs the cases on one cluster, one after the other."""

    def __init__(self, cluster: Cluster, workers: int, priority: float, size: Size) -> None:
        self.system = OnCluster(cluster, workers, priority)
        self.meter = Meter(cluster)
        self._size = size
        self._given_up = 0

    def measure(self, name: str, left_s: float, share_s: float) -> Measured:
        """Measures one case: small first, then as large as its share of the time allows."""
        if left_s <= 0 or self._given_up >= 2:
            return Measured(name, word="not measured: no time left")
        plan = PLANS[name]
        patience_s = max(LEAST_PATIENCE_S, PATIENCE * share_s)
        self.system.until = monotonic() + patience_s
        try:
            full = getattr(self._size, plan.grows)
            size = self._sized(plan, min(plan.first, full))
            begun = perf_counter()
            measured = self._once(name, plan, size)
            grown = int(min(full, plan.first * 0.7 * share_s / (perf_counter() - begun)))
            if grown > 1.5 * plan.first:
                measured = self._once(name, plan, self._sized(plan, grown))
        except OutOfTime:
            self._given_up += 1
            return Measured(name, word=f"given up after {patience_s:.0f} s: are the workers busy with other tasks?")
        except Impossible as impossible:
            return Measured(name, word=str(impossible))
        finally:
            self.system.clean()
        return measured

    def _sized(self, plan: GrowthPlan, number: int) -> Size:
        changed: dict[str, Any] = {plan.grows: number}
        return replace(self._size, **changed)

    def _once(self, name: str, plan: GrowthPlan, size: Size) -> Measured:
        usage = Usage()
        with self.meter.around(usage):
            figures: dict[str, float] = CASES[name](self.system, size)
        return Measured(name, figures, plan.tasks(size), usage)
