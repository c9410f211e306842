"""Adapters for systems with a broker of their own: nblb, Dask, ipyparallel, Ray."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from nblb.bench import meters
from nblb.bench.on_cluster import OnCluster
from nblb.bench.system import Impossible
from nblb.bench.work import noop
from tests.benchmarks.peer import WORKERS, Peer


class Nblb(OnCluster, Peer):
    """nblb with journal, security and the bound of queued tasks at their defaults."""

    collects_output = True

    def __init__(self, workers: int = WORKERS, address: str = "", user: str = "") -> None:
        import nblb

        self._folder = None if address else tempfile.TemporaryDirectory(prefix="nblb-bench-")
        self._state = address or f"{self._folder.name}/state"  # type: ignore[union-attr]
        settings = {"LB_NAME": "bench", "LB_STATE_DIR": self._state}
        cluster = nblb.connect(settings) if address else nblb.start(settings, workers=workers, monitor=False)
        OnCluster.__init__(self, cluster, workers, user=user)
        self._core: list[int] = []

    @classmethod
    def with_hubs(cls, hubs: int) -> Peer:
        system = cls(workers=1)
        starters = [threading.Thread(target=system.cluster.add_hub, kwargs={"workers": 1}) for _ in range(hubs - 1)]
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join()
        system.workers = hubs
        return system

    def joblib(self) -> AbstractContextManager[Any]:
        from joblib import parallel_config

        return parallel_config("nblb")  # type: ignore[no-any-return]

    def address(self) -> str:
        return self._state

    @classmethod
    def attach(cls, address: str, user: str = "") -> Peer:
        return cls(address=address, user=user)

    def brokers(self) -> list[int]:
        """The core's process, queried only once: behind a million submits, the answer takes longer than the timeout."""
        if not self._core:
            self._core = meters.parts_of(self.cluster)["core"]
        return self._core

    def processes(self) -> list[int]:
        """All processes, including the Health Check, which every start includes."""
        parts = meters.parts_of(self.cluster)
        known = [*parts["core"], *parts["hub"], *parts["workers"]]
        folder = str(self.cluster.parameters.runtime_dir)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid not in known and any(folder in word for word in process.cmdline()):
                    known.append(process.pid)
        return known

    def close(self) -> None:
        if self._folder is None:
            self.cluster.close()
        else:
            self.cluster.stop()
            self._folder.cleanup()


class Dask(Peer):
    """Dask's LocalCluster, with single-threaded processes and without its dashboard."""

    portion = 0.3
    batches = False

    def __init__(self, workers: int = WORKERS, address: str = "") -> None:
        from distributed import Client, LocalCluster

        super().__init__(workers)
        self.cluster = None
        if not address:
            self.cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        self.client = Client(address or self.cluster)

    @classmethod
    def with_hubs(cls, hubs: int) -> Peer:
        return cls(workers=hubs)

    def address(self) -> str:
        return str(self.cluster.scheduler_address)  # type: ignore[attr-defined]

    @classmethod
    def attach(cls, address: str, user: str = "") -> Peer:
        return cls(address=address)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.client.submit(function, *args, pure=False)

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        result: list[Any] = self.client.gather(list(futures))
        return result

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        if chunk:
            return _in_chunks(self, function, items, chunk)
        return self.gather(self.client.map(function, items, pure=False))

    def put(self, value: Any) -> Any:
        return self.client.scatter(value, broadcast=True)

    def joblib(self) -> AbstractContextManager[Any]:
        from joblib import parallel_config

        return parallel_config("dask")  # type: ignore[no-any-return]

    def close(self) -> None:
        self.client.close()
        if self.cluster is not None:
            self.cluster.close()


def _in_chunks(system: Peer, function: Callable[..., Any], items: Sequence[Any], chunk: int) -> list[Any]:
    """Map in chunks made by hand, as the documentation of Dask and of Ray recommends for small items."""

    def run(some: Sequence[Any]) -> list[Any]:
        return [function(item) for item in some]

    parts = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    return [result for part in system.gather([system.submit(run, part) for part in parts]) for result in part]


class Ipyparallel(Peer):
    """ipyparallel's load-balanced view; an engine gets up to hwm tasks ahead. Closures over arrays need cloudpickle."""

    portion = 0.3
    batches = False
    collects_output = True
    tries = {
        "imbalance": [{"hwm": 1}, {"hwm": 2}],
        "closure": [{"cloudpickle": True}],
        "constant_closure": [{"cloudpickle": True}],
    }

    def __init__(
        self, workers: int = WORKERS, address: str = "", hwm: int | None = None, cloudpickle: bool = False
    ) -> None:
        import ipyparallel

        super().__init__(workers)
        self._folder = None
        if address:
            self.cluster = None
            self.client = ipyparallel.Client(address)
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="nblb-bench-ipp-")
            os.environ["IPYTHONDIR"] = self._folder.name
            said = [] if hwm is None else [f"--TaskScheduler.hwm={hwm}"]
            self.cluster = ipyparallel.Cluster(
                n=workers, log_level=40, controller_args=said, send_engines_connection_env=True
            )
            self.client = self.cluster.start_and_connect_sync()
        if cloudpickle:
            self.client[:].use_cloudpickle()
        self.view = self.client.load_balanced_view()

    @classmethod
    def with_hubs(cls, hubs: int) -> Peer:
        return cls(workers=hubs)

    def address(self) -> str:
        (found,) = Path(self._folder.name).rglob("ipcontroller*-client.json")  # type: ignore[union-attr]
        return str(found)

    @classmethod
    def attach(cls, address: str, user: str = "") -> Peer:
        return cls(address=address)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.view.apply_async(function, *args)

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return list(self.view.map_sync(function, items, chunksize=chunk or 1))

    def put(self, value: Any) -> Any:
        """Push the value to every engine under a name; a Reference stands for it."""
        import ipyparallel

        self.client[:].push({"constant": value}, block=True)
        return ipyparallel.Reference("constant")

    def brokers(self) -> list[int]:
        """The controller and its schedulers."""
        with contextlib.suppress(Exception):
            return [self.cluster.controller.process.pid, *meters.descendants(self.cluster.controller.process.pid)]  # type: ignore[union-attr]
        return []

    def close(self) -> None:
        if self.cluster is not None:
            self.cluster.stop_cluster_sync()
        self.client.close()
        if self._folder is not None:
            self._folder.cleanup()


class Ray(Peer):
    """Ray, in a network namespace with only loopback, because it listens beyond loopback whatever its settings."""

    portion = 0.3
    batches = False

    def __init__(self, workers: int = WORKERS, address: str = "") -> None:
        import ray

        super().__init__(workers)
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=40)
        else:
            ray.init(
                num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=40,
                _node_ip_address="127.0.0.1",
            )  # fmt: skip
        self.ray = ray
        self._remote: dict[Any, Any] = {}

    @classmethod
    def with_hubs(cls, hubs: int) -> Peer:
        raise Impossible("one a machine")

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = self.ray.remote(function)
        return remote.remote(*args)

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        result: list[Any] = self.ray.get(list(futures))
        return result

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        if chunk:
            return _in_chunks(self, function, items, chunk)
        return self.gather([self.submit(function, item) for item in items])

    def put(self, value: Any) -> Any:
        return self.ray.put(value)

    def address(self) -> str:
        raise Impossible("not tried")  # each driver gets its own worker processes: 20 of them would fill this machine

    def close(self) -> None:
        self.ray.shutdown()


class HyperQueue(Peer):
    """HyperQueue's LocalCluster. It keeps no journal there, and returns no results: files hold what tasks print."""

    def __init__(self, workers: int = WORKERS) -> None:
        from hyperqueue import LocalCluster
        from hyperqueue.cluster import WorkerConfig

        super().__init__(workers)
        self._folder = tempfile.TemporaryDirectory(prefix="nblb-bench-hq-")
        self.cluster = LocalCluster()
        self.cluster.start_worker(WorkerConfig(cores=workers))
        self.client = self.cluster.client()

    single = False

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        raise Impossible("returns no results")

    def commands(self, count: int) -> None:
        job = self._job()
        for _ in range(count):
            job.program(["true"], stdout=None, stderr=None)
        self._wait(job)

    def functions(self, count: int) -> None:
        job = self._job()
        for number in range(count):
            job.function(noop, args=(number,), stdout=None, stderr=None)
        self._wait(job)

    def _job(self) -> Any:
        from hyperqueue import Job

        return Job(default_workdir=self._folder.name)

    def _wait(self, job: Any) -> None:
        submitted = self.client.submit(job)
        self.client.wait_for_jobs([submitted])

    def close(self) -> None:
        self.cluster.stop()
        self._folder.cleanup()
