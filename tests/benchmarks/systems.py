"""nblb and its peers behind one small interface, so that every case is the same code for all.

Each system starts with two workers and offers what its own documentation recommends; where it lacks something, the
method raises NotImplementedError and the case is left out for it. Imports stand inside: each runs in a process of
its own that imports just what it measures.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

WORKERS = 2


class System:
    """What a case needs. `submit` gives something with `.result()`."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        raise NotImplementedError

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        raise NotImplementedError

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        return [future.result() for future in futures]

    def put(self, value: Any) -> Any:
        """A handle that stands for a constant in arguments; the value itself where there is no such thing."""
        raise NotImplementedError

    def close(self) -> None:
        pass


class Nblb(System):
    """With journal and security at their defaults; only the bound of queued tasks is lifted."""

    def __init__(self, workers: int = WORKERS) -> None:
        import nblb

        self._folder = tempfile.TemporaryDirectory(prefix="nblb-bench-")
        os.environ["NBLB_RUNTIME_DIR"] = self._folder.name
        self.cluster = nblb.start(
            {"LB_STATE_DIR": self._folder.name + "/state", "LB_QUEING_MAXPERUSER": 0}, workers=workers, monitor=False
        )
        self._nblb = nblb
        self._tasks: dict[Any, Any] = {}

    def _task(self, function: Callable[..., Any]) -> Any:
        task = self._tasks.get(function)
        if task is None:
            task = self._tasks[function] = self._nblb.task(function)
        return task

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._task(function).submit(*args)

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        result: list[Any] = self._task(function).map(items, chunksize=chunk or "auto").results()
        return result

    def put(self, value: Any) -> Any:
        return self._nblb.put(value)

    def close(self) -> None:
        self.cluster.stop()
        self._folder.cleanup()


class ProcessPool(System):
    def __init__(self, workers: int = WORKERS) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(workers)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.submit(function, *args)

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return list(self.pool.map(function, items, chunksize=chunk or 1))

    def close(self) -> None:
        self.pool.shutdown()


class Loky(ProcessPool):
    def __init__(self, workers: int = WORKERS) -> None:
        from loky import get_reusable_executor

        self.pool = get_reusable_executor(max_workers=workers)


class Joblib(System):
    """One Parallel kept open; it has no single submits."""

    def __init__(self, workers: int = WORKERS) -> None:
        from joblib import Parallel

        self.parallel = Parallel(n_jobs=workers)
        self.parallel.__enter__()

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        from joblib import delayed

        self.parallel.batch_size = chunk or "auto"
        return list(self.parallel(delayed(function)(item) for item in items))

    def close(self) -> None:
        self.parallel.__exit__(None, None, None)


class Mpire(System):
    def __init__(self, workers: int = WORKERS) -> None:
        from mpire import WorkerPool

        self.pool = WorkerPool(n_jobs=workers, keep_alive=True)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(function, args)

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        return [future.get() for future in futures]

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return list(self.pool.map(function, items, chunk_size=chunk))

    def close(self) -> None:
        self.pool.terminate()


class Dask(System):
    def __init__(self, workers: int = WORKERS) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        self.client = Client(self.cluster)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.client.submit(function, *args, pure=False)

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        result: list[Any] = self.client.gather(list(futures))
        return result

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return self.gather(self.client.map(function, items, pure=False, batch_size=chunk))

    def put(self, value: Any) -> Any:
        return self.client.scatter(value, broadcast=True)

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


class Ipyparallel(System):
    def __init__(self, workers: int = WORKERS) -> None:
        import ipyparallel

        self._folder = tempfile.TemporaryDirectory(prefix="nblb-bench-ipp-")
        os.environ["IPYTHONDIR"] = self._folder.name
        self.cluster = ipyparallel.Cluster(n=workers, log_level=40, send_engines_connection_env=True)
        self.client = self.cluster.start_and_connect_sync()
        self.view = self.client.load_balanced_view()

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.view.apply_async(function, *args)

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return list(self.view.map_sync(function, items, chunksize=chunk or 1))

    def close(self) -> None:
        self.cluster.stop_cluster_sync()
        self.client.close()
        self._folder.cleanup()


class Ray(System):
    """Listens beyond loopback whatever it is told: run it in a network namespace that has only `lo`."""

    def __init__(self, workers: int = WORKERS) -> None:
        import ray

        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
        self.ray = ray
        self._remote: dict[Any, Any] = {}

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = self.ray.remote(function)
        return remote.remote(*args)

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        result: list[Any] = self.ray.get(list(futures))
        return result

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return self.gather([self.submit(function, item) for item in items])

    def put(self, value: Any) -> Any:
        return self.ray.put(value)

    def close(self) -> None:
        self.ray.shutdown()


class Bare(System):
    """The limit, not a product: ROUTER between a DEALER and two workers, functions by name, nothing kept."""

    def __init__(self, workers: int = WORKERS) -> None:
        import cloudpickle
        import zmq

        self._folder = tempfile.TemporaryDirectory(prefix="nblb-bench-zmq-")
        front, back = (f"ipc://{self._folder.name}/{name}" for name in ("front", "back"))
        context = multiprocessing.get_context("fork")
        self._processes = [context.Process(target=_bare_broker, args=(front, back), daemon=True)]
        self._processes += [context.Process(target=_bare_worker, args=(back,), daemon=True) for _ in range(workers)]
        for process in self._processes:
            process.start()
        self._socket = zmq.Context().socket(zmq.DEALER)
        self._socket.connect(front)
        self._dumps = cloudpickle.dumps
        self._pickles: dict[Any, bytes] = {}
        self._futures: dict[int, Future[Any]] = {}
        self._number = 0

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        pickled = self._pickles.get(function)
        if pickled is None:
            pickled = self._pickles[function] = self._dumps(function)
        self._number += 1
        future: Future[Any] = Future()
        self._futures[self._number] = future
        self._socket.send_multipart([b"%d" % self._number, pickled, pickle.dumps(args, 5)])
        return future

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        wanted = list(futures)
        for future in wanted:
            while not future.done():
                number, result = self._socket.recv_multipart()
                self._futures.pop(int(number)).set_result(pickle.loads(result))
        return [future.result() for future in wanted]

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        self._folder.cleanup()


def _bare_broker(front: str, back: str) -> None:
    import zmq

    context = zmq.Context()
    clients, workers = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    for socket, address in ((clients, front), (workers, back)):
        socket.set_hwm(0)
        socket.bind(address)
    poller, free = zmq.Poller(), []
    poller.register(workers, zmq.POLLIN)
    while True:
        if free:
            poller.register(clients, zmq.POLLIN)
        else:
            with contextlib.suppress(KeyError):
                poller.unregister(clients)
        ready = dict(poller.poll())
        if workers in ready:
            worker, *rest = workers.recv_multipart()
            free.append(worker)
            if len(rest) > 1:
                clients.send_multipart(rest)
        if clients in ready and free:
            workers.send_multipart([free.pop(0), *clients.recv_multipart()])


def _bare_worker(back: str) -> None:
    import zmq

    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(back)
    socket.send_multipart([b"ready"])
    functions: dict[bytes, Any] = {}
    while True:
        client, number, pickled, args = socket.recv_multipart()
        function = functions.get(pickled) or functions.setdefault(pickled, pickle.loads(pickled))
        socket.send_multipart([client, number, pickle.dumps(function(*pickle.loads(args)), 5)])


SYSTEMS: dict[str, type[System]] = {
    "nblb": Nblb,
    "bare": Bare,
    "processpool": ProcessPool,
    "loky": Loky,
    "joblib": Joblib,
    "mpire": Mpire,
    "dask": Dask,
    "ipyparallel": Ipyparallel,
    "ray": Ray,
}
