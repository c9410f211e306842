"""The engine for Dask: a scheduler's address, or what makes a Cluster object."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from nblb.engines.engine import EngineEvent, OrderEnded, OrderLost, OrderReported, Pieces
from nblb.engines.remote_call import run_order
from nblb.errors import NblbError

SCATTER_BYTES = 32 * 1024  # a larger piece of a blob goes to each worker once
NEEDS = "the engine \"dask\" needs Dask: pip install 'nblb[dask]'"
CONNECT_S = 30.0


class DaskEngine:
    """Runs orders on the workers of a Dask cluster.

    Parameters
    ----------
    options
        "address", of a scheduler; or "cluster", "module:callable" for what returns a Cluster object (LocalCluster,
        dask-jobqueue's, dask-kubernetes', …), which gets the other options. Without both a LocalCluster is started.
    """

    name = "dask"
    capabilities = frozenset({"cancel_queued", "kill", "progress", "output", "scale"})

    def __init__(self, options: Mapping[str, Any]) -> None:
        try:
            self._distributed: Any = import_module("distributed")
        except ImportError:
            raise NblbError(NEEDS) from None
        self._options = dict(options)
        self._address = str(self._options.pop("address", ""))
        self._maker = str(self._options.pop("cluster", ""))
        self._topic = f"nblb-{os.getpid()}-{id(self)}"
        self._cluster: Any = None
        self._client: Any = None
        self._futures: dict[int, Any] = {}
        self._killed: set[int] = set()
        self._lock = threading.Lock()

    def start(self, workers: int, report: Callable[[EngineEvent], None]) -> None:
        self._report = report
        distributed = self._distributed
        # A lost order is the core's to decide on: Dask must not run it again.
        import_module("dask").config.set({"distributed.scheduler.allowed-failures": 0})
        if not self._address:
            self._cluster = self._made(workers)
        try:
            where = self._address or self._cluster
            self._client = distributed.Client(where, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise NblbError(f"no Dask scheduler answers at {self._address or 'its cluster'}: {error}") from None
        self._client.subscribe_topic(self._topic, self._told)

    def _made(self, workers: int) -> Any:
        if not self._maker:
            local = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1",
                     "dashboard_address": None, **self._options}  # fmt: skip
            return self._distributed.LocalCluster(**local)
        from nblb.engines.executor_engine import made_by

        cluster = made_by(self._maker)(**self._options)
        if workers:
            cluster.scale(workers)
        return cluster

    def _told(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, message = event
        self._report(OrderReported(int(message["ticket"]), bytes(message["message"])))

    def place(self, name: str, data: bytes) -> Any:  # noqa: ARG002
        return data if len(data) <= SCATTER_BYTES else self._client.scatter(data, hash=True)

    def drop(self, placed: Any) -> None:
        if not isinstance(placed, bytes):
            placed.release()

    def submit(self, ticket: int, order: bytes, pieces: Pieces) -> None:
        try:
            future = self._client.submit(
                run_reporting,
                order,
                dict(pieces),
                self._topic,
                ticket,
                key=f"{self._topic}-{ticket}",
                pure=False,
                retries=0,
            )
        except Exception as error:
            self._report(OrderLost(ticket, f"Dask does not take a call: {error!r}"))
            return
        with self._lock:
            self._futures[ticket] = future
        future.add_done_callback(lambda done: self._ended(ticket, done))

    def _ended(self, ticket: int, future: Any) -> None:
        with self._lock:
            known = self._futures.pop(ticket, None)
        if known is None:
            return
        try:
            self._report(OrderEnded(ticket, future.result(timeout=CONNECT_S)))
        except BaseException as error:
            was_killed = ticket in self._killed
            self._killed.discard(ticket)
            why = "its worker was killed" if was_killed else f"Dask has lost it: {type(error).__name__}: {error}"
            self._report(OrderLost(ticket, why))
        finally:
            future.release()

    def cancel(self, ticket: int) -> bool:
        future = self._futures.get(ticket)
        if future is None or self._place_of(future.key):
            return False
        with self._lock:
            self._futures.pop(ticket, None)
        future.cancel(force=True)
        return True

    def _place_of(self, key: str) -> str:
        """Return the address of the worker that runs a key; "" if none does."""
        found = self._client.processing()
        return next((worker for worker, keys in found.items() if key in keys), "")

    def kill(self, ticket: int) -> bool:
        future = self._futures.get(ticket)
        worker = self._place_of(future.key) if future is not None else ""
        if not worker:
            return False
        self._killed.add(ticket)
        try:
            self._client.run(kill_worker, workers=[worker], nanny=True)
        except Exception as error:
            self._report(OrderLost(ticket, f"Dask cannot kill its worker: {error!r}"))
        return True

    def scale(self, workers: int) -> bool:
        if self._cluster is None:
            return False
        self._cluster.scale(workers)
        return True

    def close(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()
        self._client = self._cluster = None


def run_reporting(order: bytes, pieces: Mapping[str, Any], topic: str, ticket: int) -> bytes:
    """Run an order in a worker of Dask, whose events carry its output and progress."""
    worker = import_module("distributed").get_worker()

    def send(message: bytes) -> None:
        worker.log_event(topic, {"ticket": ticket, "message": message})

    return run_order(order, pieces, send)


def kill_worker(dask_worker: Any) -> None:
    """Kill the worker process of a nanny, which starts a new one."""
    os.kill(dask_worker.process.pid, signal.SIGKILL)
