"""joblib, and scikit-learn with it, on the cluster: `joblib.parallel_config("nblb")`, the rest unchanged.

What a backend has to be is said in joblib's documentation (Custom backend API). Batches grow with joblib's own
measure of time; each is one task, all of a Parallel call are one job.
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
from nblb.client.executor import Executor
from nblb.client.submit.function_cache import name_of
from nblb.client.submit.ids import new_id
from nblb.client.submit.submit import Options
from nblb.client.task_decorator import Task

if TYPE_CHECKING:
    from nblb.client.futures.task_future import TaskFuture

_numbers = itertools.count(1)


class JoblibBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs the batches of joblib.Parallel as tasks of the current cluster.

    Parameters
    ----------
    nesting_level
        joblib's own: how deep in other Parallel calls this one is.
    inner_max_num_threads
        How many threads BLAS and OpenMP use in each call; by default each worker's share of the cores.
    initializer, initargs
        Called once in each worker before its first batch.
    **options
        As those of `task`: priority, retries, timeout, user, … They may stand in parallel_config("nblb", priority=10).
    """

    default_n_jobs = -1  # all workers: who asks for a cluster wants it
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
        self.parallel: Any = None
        parent = task_api.parent
        if parent is not None and parent.is_waited_by:
            # joblib would look for results that callbacks leave, again and again. It shall wait for each future itself:
            # only so is it known that the task waits, and its worker gives up its slot.
            self.supports_retrieve_callback = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches to have under way: as many as were asked for, or all workers but some if below 0."""
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
        self._executor = Executor(priority=self._options.priority, user=self._options.user)
        self._executor.name = f"joblib-{next(_numbers)}"

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

    apply_async = submit  # what joblib before 1.5 calls it

    def retrieve_result(self, out: TaskFuture, timeout: float | None = None) -> Any:
        return out.result(timeout)

    def retrieve_result_callback(self, out: TaskFuture) -> Any:
        """The results of a batch; what its calls have printed and warned of is shown first."""
        said = out._port.printed_after(out, "stdout", 0)[0], out._port.printed_after(out, "stderr", 0)[0]
        if any(said):
            self._show(*said)
        return out.result()

    def stop_call(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)

    def terminate(self) -> None:
        self.stop_call()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """One call has failed, or the wait was interrupted: nobody wants the others any more."""
        executor = self._executor
        if executor is not None:
            executor.cancel()
            self.stop_call()
        if ensure_ready:
            self.start_call()


class _Setup(NamedTuple):
    """What is called once in each worker, told from others by its id."""

    id: str
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]


_set_up: set[str] = set()  # in this worker


def _show(printed: str, warned: str) -> None:
    sys.stdout.write(printed)
    sys.stderr.write(warned)


def _run(batch: Callable[[], Any]) -> Any:
    return batch()


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
    """Libraries that are loaded are told so; those that are loaded meanwhile find it in the environment."""
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


def _name(batch: Any) -> str:
    """The name of the function that a batch calls, for people to read; joblib's own wrappers are looked through."""
    try:
        function = batch.items[0][0]
        return name_of(getattr(function, "function", function))
    except Exception:  # a batch that is made otherwise
        return "joblib"
