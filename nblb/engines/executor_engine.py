"""The engine for any concurrent.futures.Executor: "module:callable" names what makes one."""

from __future__ import annotations

import inspect
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from importlib import import_module
from pathlib import Path
from typing import Any

from nblb.engines.engine import EngineEvent, OrderEnded, OrderLost, Pieces
from nblb.engines.remote_call import run_order
from nblb.errors import NblbError

FILE_BYTES = 32 * 1024  # a larger piece of a blob travels once, in a file


class ExecutorEngine:
    """Runs orders with `submit` of an Executor, which is made anew when it is broken.

    Parameters
    ----------
    name
        "module:callable": the callable returns an Executor. If it takes `max_workers`, it gets the hub's number.
    options
        Its other arguments; "folder" is for large blobs, and must be shared if the workers run on several computers.
    """

    capabilities: frozenset[str] = frozenset({"cancel_queued", "scale"})

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = {key: value for key, value in options.items() if key != "folder"}
        self._make = made_by(name)
        self._takes_workers = _takes(self._make, "max_workers") and "max_workers" not in self._options
        if not self._takes_workers:
            self.capabilities = self.capabilities - {"scale"}
        self._executor: Executor | None = None
        self._futures: dict[int, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._workers = 0
        self._numbers = 0
        parent = options.get("folder")
        self._folder = Path(tempfile.mkdtemp(prefix="nblb-engine-", dir=parent))

    def start(self, workers: int, report: Callable[[EngineEvent], None]) -> None:
        self._workers, self._report = max(1, workers), report
        self._executor = self._made()

    def _made(self) -> Executor:
        options = {"max_workers": self._workers} if self._takes_workers else {}
        made = self._make(**options, **self._options)
        if not isinstance(made, Executor) and not (hasattr(made, "submit") and hasattr(made, "shutdown")):
            raise NblbError(
                f"the engine {self.name!r} returns {type(made).__name__}, which is no Executor: it has no submit"
            )
        executor: Executor = made
        if type(executor).__module__.partition(".")[0] == "nblb":  # of another core, whose futures stop what runs
            self.capabilities = self.capabilities | {"interrupt"}
        return executor

    def place(self, name: str, data: bytes) -> Any:
        if len(data) <= FILE_BYTES:
            return data
        self._numbers += 1
        path = self._folder / f"{name}-{self._numbers}"
        path.write_bytes(data)
        return str(path)

    def drop(self, placed: Any) -> None:
        if isinstance(placed, str):
            Path(placed).unlink(missing_ok=True)

    def submit(self, ticket: int, order: bytes, pieces: Pieces) -> None:
        try:
            future = self._submitted(order, pieces)
        except Exception as error:  # the user's executor may raise anything
            self._report(OrderLost(ticket, f"the engine {self.name!r} does not take a call: {error!r}"))
            return
        with self._lock:
            self._futures[ticket] = future
        future.add_done_callback(lambda done: self._ended(ticket, done))

    def _submitted(self, order: bytes, pieces: Pieces) -> Future[bytes]:
        if self._executor is None:
            self._executor = self._made()
        try:
            return self._executor.submit(run_order, order, pieces)
        except BrokenExecutor:  # a worker has died, which ends a pool for all
            self._executor.shutdown(wait=False)
            self._executor = self._made()
            return self._executor.submit(run_order, order, pieces)

    def _ended(self, ticket: int, future: Future[bytes]) -> None:
        with self._lock:
            known = self._futures.pop(ticket, None)
        if known is None:
            return  # it was taken back
        try:
            self._report(OrderEnded(ticket, future.result()))
        except CancelledError:
            self._report(OrderLost(ticket, f"the engine {self.name!r} has cancelled it"))
        except BaseException as error:
            self._report(OrderLost(ticket, f"the engine {self.name!r} has lost it: {type(error).__name__}: {error}"))

    def cancel(self, ticket: int) -> bool:
        with self._lock:
            future = self._futures.pop(ticket, None)
        if future is None:
            return False
        if future.cancel():
            return True
        with self._lock:
            self._futures[ticket] = future
        if future.done():  # it has ended meanwhile, when it was not listed
            self._ended(ticket, future)
        return False

    def kill(self, ticket: int) -> bool:  # noqa: ARG002
        return False

    def scale(self, workers: int) -> bool:
        """Use a new executor of this size for what follows; what runs ends in the old one."""
        if not self._takes_workers or workers < 1:
            return False
        if workers != self._workers:
            self._workers, old, self._executor = workers, self._executor, None
            if old is not None:
                old.shutdown(wait=False)
        return True

    def close(self) -> None:
        """End the executor; what its processes still run is killed with the hub's children."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def made_by(name: str) -> Callable[..., Any]:
    """Return the callable that "module:callable" names; raise NblbError if there is none."""
    module, _, attributes = name.partition(":")
    try:
        found: Any = import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise NblbError(f"the engine {name!r} cannot be loaded: {error}; it is written module:callable") from None
    if not callable(found):
        raise NblbError(f"the engine {name!r} is a {type(found).__name__}; it must be callable and return an Executor")
    made: Callable[..., Any] = found
    return made


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters
