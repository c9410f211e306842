"""A joblib backend that runs joblib and scikit-learn on the cluster: `joblib.parallel_config("nblb")`.

The interface of a backend is described in joblib's documentation (Custom backend API). joblib adapts the size of
batches to their run time; each batch is one task, and a call of Parallel is one job.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase

from nblb import task_api
from nblb.client import current, front_end
from nblb.client.connection.wait_display import BackgroundDisplay
from nblb.client.executor import Executor
from nblb.client.submit.function_cache import name_of
from nblb.client.submit.ids import new_id
from nblb.client.submit.submit import Options
from nblb.client.task_decorator import Task
from nblb.payload import describe_call

if TYPE_CHECKING:
    from nblb.client.futures.task_future import TaskFuture

_numbers = itertools.count(1)


class NblbBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs the batches of joblib.Parallel as tasks of the current cluster.

    Parameters
    ----------
    nesting_level
        Used by joblib: the depth of nesting inside other Parallel calls.
    inner_max_num_threads
        The number of threads that BLAS and OpenMP use in each call; by default a worker's share of the cores.
    initializer, initargs
        Called once in each worker before its first batch.
    **options
        Options as for `task`: priority, retries, timeout, user, … Example: parallel_config("nblb", priority=10).
    """

    default_n_jobs = -1  # all workers of the cluster
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = Options().changed(options)
        self._setup = _Setup(new_id(), initializer, initargs)
        self._show = _show
        self._executor: Executor | None = None
        self._display: BackgroundDisplay | None = None
        self.parallel: Any = None
        parent = task_api.parent
        if parent is not None and parent.is_waited_by:
            # With callbacks, joblib would poll for results. Inside a task it must wait for each future instead, so
            # that the task is known to wait and its worker gives up its slot.
            self.supports_retrieve_callback = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """The number of batches to keep under way: as requested, or all workers but some for a number below 0."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        workers: int = sum(hub.workers for hub in current.get().hubs())
        return max(1, workers + 1 + (n_jobs if n_jobs is not None else -1))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        self.parallel = parallel
        self.reset_batch_stats()
        return self.effective_n_jobs(n_jobs)

    def start_call(self) -> None:
        self._show = front_end.here(_show)
        self._executor = Executor(current.get(), self._options.priority, self._options.user)
        self._executor.name = f"joblib-{next(_numbers)}"
        self._display = BackgroundDisplay(self._shown)

    def _shown(self) -> Any:
        """The calls of this Parallel, as one group; None before the first one."""
        calls = self._executor._calls if self._executor is not None else None
        return calls.group if calls is not None else None

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> TaskFuture:
        if self._executor is None:
            self.start_call()
        assert self._executor is not None
        named = self._options if self._options.name else self._options.changed({"name": _name(func)})
        setup = self._setup if self._setup.initializer is not None else None
        if setup is None and self.inner_max_num_threads is None:
            future = self._executor.submit(Task(_run, named), func)
        else:
            future = self._executor.submit(Task(_run_prepared, named), func, setup, self.inner_max_num_threads)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result(self, out: TaskFuture, timeout: float | None = None) -> Any:
        return out.result(timeout)

    def retrieve_result_callback(self, out: TaskFuture) -> Any:
        """Return the results of a batch, after showing what its calls printed and warned."""
        said = out._port.printed_after(out, "stdout", 0)[0], out._port.printed_after(out, "stderr", 0)[0]
        if any(said):
            self._show(*said)
        return out.result()

    def stop_call(self) -> None:
        executor, self._executor = self._executor, None
        if self._display is not None:
            self._display.stop()
        if executor is not None:
            executor.shutdown(cancel_futures=True)

    def terminate(self) -> None:
        self.stop_call()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the other batches, because a call has failed or the wait was interrupted."""
        executor = self._executor
        if executor is not None:
            executor.cancel()
            self.stop_call()
        if ensure_ready:
            self.start_call()


class _Setup(NamedTuple):
    """The initializer to call once in each worker; its id distinguishes it from others."""

    id: str
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]


_set_up: set[str] = set()  # ids of the initializers that this worker has called


def _show(printed: str, warned: str) -> None:
    sys.stdout.write(printed)
    sys.stderr.write(warned)


def _run(batch: Callable[[], Any]) -> Any:
    return batch()


def _said(batch: Any, *_: Any) -> str:
    """The call of a batch of one as text, with its own function and arguments; of a longer batch their number."""
    (function, args, kwargs), *more = batch.items
    name = _name(batch)
    if more:
        return f"{len(batch.items)} calls of {name}"
    return describe_call(getattr(function, "function", function), name, args, kwargs)


_run.__nblb_call__ = _said  # type: ignore[attr-defined]  # in place of the call with joblib's own batch


def _run_prepared(batch: Callable[[], Any], setup: _Setup | None, threads: int | None) -> Any:
    if setup is not None and setup.initializer is not None and setup.id not in _set_up:
        setup.initializer(*setup.initargs)
        _set_up.add(setup.id)
    if threads is None:
        return batch()
    with _threads_limited(threads):
        return batch()


@contextlib.contextmanager
def _threads_limited(threads: int) -> Iterator[None]:
    """Limit the threads of numeric libraries: loaded ones directly, those imported later by environment variables."""
    names = ParallelBackendBase.MAX_NUM_THREADS_VARS
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            yield
        else:
            with threadpool_limits(limits=threads):
                yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_run_prepared.__nblb_call__ = _said  # type: ignore[attr-defined]


def _name(batch: Any) -> str:
    """The readable name of the function that a batch calls, without joblib's own wrappers."""
    try:
        function = batch.items[0][0]
        return name_of(getattr(function, "function", function))
    except Exception:  # a batch of another structure
        return "joblib"
