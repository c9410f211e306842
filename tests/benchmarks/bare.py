"""The bare pyzmq broker, which shows the limit set by the sockets: a ROUTER between a DEALER and two workers."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from nblb.bench.system import Impossible
from tests.benchmarks.peer import WORKERS, Peer


class Bare(Peer):
    batches = False

    def __init__(self, workers: int = WORKERS, address: str = "") -> None:
        import cloudpickle
        import zmq

        super().__init__(workers)
        self._processes: list[Any] = []
        self._folder = None
        if not address:
            self._folder = tempfile.TemporaryDirectory(prefix="nblb-bench-zmq-")
            address = f"ipc://{self._folder.name}/front"
            back = f"ipc://{self._folder.name}/back"
            context = multiprocessing.get_context("fork")
            self._processes = [context.Process(target=_broker, args=(address, back), daemon=True)]
            self._processes += [context.Process(target=_worker, args=(back,), daemon=True) for _ in range(workers)]
            for process in self._processes:
                process.start()
        self._address = address
        self._socket = zmq.Context().socket(zmq.DEALER)
        self._socket.set_hwm(0)
        self._socket.connect(address)
        self._dumps = cloudpickle.dumps
        self._pickles: dict[Any, bytes] = {}
        self._futures: dict[int, Future[Any]] = {}
        self._number = 0

    @classmethod
    def with_hubs(cls, hubs: int) -> Peer:
        return cls(workers=hubs)

    def address(self) -> str:
        return self._address

    @classmethod
    def attach(cls, address: str, user: str = "") -> Peer:
        return cls(address=address)

    def brokers(self) -> list[int]:
        return [self._processes[0].pid]

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

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        if chunk:
            raise Impossible("no chunks")
        return self.run(function, items)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        if self._folder is not None:
            self._folder.cleanup()


def _broker(front: str, back: str) -> None:
    import zmq

    context = zmq.Context()
    clients, workers = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    for socket, address in ((clients, front), (workers, back)):
        socket.set_hwm(0)
        socket.bind(address)
    relay(clients, workers)


def relay(clients: Any, workers: Any, others: Mapping[Any, Callable[[], object]] | None = None) -> None:
    """Pass requests of clients to free workers, and replies back, for ever; `others`: sockets and what reads them."""
    import zmq

    poller, free = zmq.Poller(), []
    for socket in (workers, *(others or {})):
        poller.register(socket, zmq.POLLIN)
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
        for socket, read in (others or {}).items():
            if socket in ready:
                read()


def _worker(back: str) -> None:
    import zmq

    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(back)
    socket.send_multipart([b"ready"])
    functions: dict[bytes, Any] = {}
    while True:
        client, number, pickled, args = socket.recv_multipart()
        function = functions.get(pickled) or functions.setdefault(pickled, pickle.loads(pickled))
        socket.send_multipart([client, number, pickle.dumps(function(*pickle.loads(args)), 5)])
