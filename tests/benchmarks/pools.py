"""Adapters for pools inside the client's process, which store nothing and serve no other process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from nblb.bench.system import Impossible
from tests.benchmarks.peer import WORKERS, Peer


class ProcessPool(Peer):
    batches = False

    def __init__(self, workers: int = WORKERS) -> None:
        from concurrent.futures import ProcessPoolExecutor

        super().__init__(workers)
        self.pool: Any = ProcessPoolExecutor(workers)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.submit(function, *args)

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return list(self.pool.map(function, items, chunksize=chunk or 1))

    def check_closures(self) -> None:
        raise Impossible("no closures")

    def close(self) -> None:
        self.pool.shutdown()

    def abandon(self) -> None:
        self.pool.shutdown(cancel_futures=True)


class Loky(ProcessPool):
    def __init__(self, workers: int = WORKERS) -> None:
        from loky import get_reusable_executor

        Peer.__init__(self, workers)
        self.pool = get_reusable_executor(max_workers=workers)

    def check_closures(self) -> None:
        """Closures work, because loky uses cloudpickle."""

    def abandon(self) -> None:
        self.pool.shutdown(kill_workers=True)


class Interpreters(ProcessPool):
    """The standard library's pool of interpreters in one process, each with its own lock (Python 3.14)."""

    def __init__(self, workers: int = WORKERS) -> None:
        from concurrent import futures

        Peer.__init__(self, workers)
        self.pool = futures.InterpreterPoolExecutor(workers)  # type: ignore[attr-defined]


class Executorlib(ProcessPool):
    """executorlib on this computer, with workers that stay (block allocation)."""

    portion = 0.1

    def __init__(self, workers: int = WORKERS) -> None:
        from executorlib import SingleNodeExecutor

        Peer.__init__(self, workers)
        self.pool = SingleNodeExecutor(max_workers=workers, block_allocation=True)

    def check_closures(self) -> None:
        """Closures work, because executorlib uses cloudpickle."""

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return self.gather([self.pool.submit(function, item) for item in items])

    def abandon(self) -> None:
        self.pool.shutdown(wait=False)


class Joblib(Peer):
    """joblib with one Parallel kept open, as its documentation recommends for many calls."""

    single = False

    def __init__(self, workers: int = WORKERS) -> None:
        from joblib import Parallel

        super().__init__(workers)
        self.parallel = Parallel(n_jobs=workers)
        self.parallel.__enter__()

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        from joblib import delayed

        self.parallel.batch_size = chunk or "auto"
        return list(self.parallel(delayed(function)(item) for item in items))

    def joblib(self) -> AbstractContextManager[Any]:
        from joblib import parallel_config

        return parallel_config("loky")  # type: ignore[no-any-return]

    def close(self) -> None:
        self.parallel.__exit__(None, None, None)


class Mpire(Peer):
    """mpire, kept alive between calls. Its workers are forks, so newer functions must be importable."""

    def __init__(self, workers: int = WORKERS) -> None:
        from mpire import WorkerPool

        super().__init__(workers)
        self.pool = WorkerPool(n_jobs=workers, keep_alive=True)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(function, args)

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        return [future.get() for future in futures]

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        return list(self.pool.map(function, items, chunk_size=chunk))

    def check_closures(self) -> None:
        raise Impossible("no closures")

    def close(self) -> None:
        self.pool.terminate()
