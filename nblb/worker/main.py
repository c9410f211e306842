"""A worker: the process that calls the users' functions, one slice of calls at a time.

It is forked by the fork server (hub/pool/fork_server.py), reads slices from its channel and answers each with its end.
What a task does (raise, exit, print, change signal handlers) must not affect the next one, and SIGINT stops the
attempt that the hub meant or none.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import resource
import select
import signal
import sys
import traceback
import types
from collections import deque
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Any

from nblb import task_api
from nblb.payload import Call, put_back, stores
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Failure, RunTask, TaskFinished, TaskProgressed, TaskStopped, WorkerStarted
from nblb.system import child_processes
from nblb.user_text import clean, text_of
from nblb.worker import calling, displays, patches
from nblb.worker.capture import WorkerOutput, label_logging, own_stream
from nblb.worker.channel import STACK_SIGNAL, Channel, peek_number, receive_datagram, to_worker, unpack
from nblb.worker.checkpoints import Checkpoints
from nblb.worker.control_page import NOTE_BYTES, ControlPage, marks
from nblb.worker.early_results import EarlyResults
from nblb.worker.fresh_imports import fresh_imports
from nblb.worker.live import LiveChannel
from nblb.worker.nested import Nested
from nblb.worker.peak_memory import PeakMemory
from nblb.worker.process_state import ProcessState
from nblb.worker.progress_bars import bars
from nblb.worker.result_files import HandTo, ResultFiles
from nblb.worker.settings import WorkerSettings

SPARE_MB = 512  # libraries reserve memory that they never touch
TELL_AFTER_S = 0.02  # a slice of many calls reports its progress after so long …
TELL_EVERY_S = 0.01  # … and at this interval: the hub reads it half as often
BLOBS_S = 5.0  # wait for blobs that the hub has read back and sends again
FIGURES = "matplotlib._pylab_helpers"  # the module with the open figures


class WorkerLoop:
    """Serves one channel until it is closed."""

    def __init__(
        self,
        name: str,
        channel: Channel,
        cell: ControlPage,
        output: WorkerOutput,
        settings: WorkerSettings,
        asked: int,
    ) -> None:
        self.name = name
        self._channel, self._cell, self._output = channel, cell, output
        self._live = LiveChannel(channel, cell)
        self._checkpoints = Checkpoints(channel, cell)
        self._blobs = calling.Blobs()
        self._behind: deque[tuple[bytes, int]] = deque()  # taken from the channel during a wait for a blob
        self._results: ResultFiles | None = None
        self._max_bytes = settings.max_message_mb * 1024 * 1024
        self._parts = EarlyResults(channel, name, asked, self._max_bytes)
        self._nested = Nested(channel, cell, self._parts, settings.parameters, bool(settings.account))
        self._number = 0  # of the slice that may be interrupted
        self._interrupted = False
        self._run: RunTask | None = None
        self._left = 0  # calls of the slice that are not begun, and handed back
        self._tell_at = 0.0  # when a slice of many calls reports its progress next
        self._peak = self._parts.peak = PeakMemory()
        self._pid = os.getpid()

    def serve(self) -> None:
        self._state = ProcessState(self._on_interrupt)
        self._serve_tasks()
        displays.install(self._live.show)
        patches.install()
        label_logging()
        self._channel.send(0, WorkerStarted(worker=self.name, pid=os.getpid()))
        while True:
            datagram, fd = self._behind.popleft() if self._behind else receive_datagram(self._channel.socket)
            if not datagram:
                return
            if peek_number(datagram):
                number, run = unpack(to_worker, datagram, fd, self._blobs.find)
                self._wait_for_blobs(run)
                self._run_slice(number, run)
            elif (told := self._blobs.take(datagram, fd)) is not None:
                self._hand_to(told)

    def _serve_tasks(self) -> None:
        """Set what the functions of task_api reach; a task may have changed it."""
        task_api.reporter, task_api.voice, task_api.parent = self._report, self._live, self._nested
        task_api.keeper = self._checkpoints

    def _wait_for_blobs(self, run: RunTask) -> None:
        """Wait for missing blobs: if the hub was reading back this channel meanwhile, it sends them again."""
        sock = self._channel.socket
        while self._blobs.lack(run) and select.select([sock], [], [], BLOBS_S)[0]:
            datagram, fd = receive_datagram(sock)
            if not datagram or peek_number(datagram):
                self._behind.append((datagram, fd))
                if not datagram:
                    return
            elif (told := self._blobs.take(datagram, fd)) is not None:
                self._hand_to(told)

    def _hand_to(self, told: HandTo) -> None:
        """Write large results to files from now on, and read large inputs from files."""
        stores.store = self._results = self._parts.store = ResultFiles(told)
        self._blobs.find, self._channel.refer = self._results.folder.find, self._results.folder.refers

    # ── one slice ──

    def _run_slice(self, number: int, run: RunTask) -> None:
        started = perf_counter()
        self._follows: list[tuple[int, str]] = []
        self._interrupted, self._run, self._tell_at, self._left = False, run, started + TELL_AFTER_S, 0
        payload: Payload | None = None
        broken: BaseException | None = None
        failures: list[Failure] = []
        kept: list[int] = []
        self._cell.begin(number)
        self._peak.begin()
        self._live.begin(number, run)
        self._checkpoints.begin(number, run)
        self._nested.begin(number, run)
        try:
            try:
                self._number = number  # KeyboardInterrupt may come from here to the end of the block
                if self._cell.is_to_stop(number):  # SIGINT came before the slice was begun
                    self._number, self._interrupted = 0, True
                    raise KeyboardInterrupt
                payload = self._call_all(run, failures, kept)
            finally:
                self._number = 0
        except BaseException as error:
            broken = error
        peak_bytes = self._peak.nbytes
        stopped = self._interrupted  # only the hub's request counts, not a KeyboardInterrupt that a call raises
        told = self._parts.end() if run.items > 1 else 0
        if broken is not None and not stopped:  # a user's object has raised outside its calls
            begun = range(told, run.items - self._left)
            payload, failures = None, calling.rest_failed(broken, run, failures, begun, self.name)
        self._run = None
        put_back()
        if os.getpid() != self._pid:
            os._exit(0)  # the child of a task that forked: it must not answer for its parent
        if stopped:
            child_processes.end_since(perf_counter() - started)
        self._tidy_up(number, run)
        end: TaskFinished | TaskStopped
        if stopped:
            end = TaskStopped(task=run.task, attempt=run.attempt, first=run.first, ran=True, worker=self.name)
        else:
            end = TaskFinished(
                task=run.task,
                attempt=run.attempt,
                first=run.first,
                items=run.items,
                payload=payload,
                failures=tuple(failures),
                duration_s=perf_counter() - started,
                worker=self.name,
                kept=tuple(kept),
                told=told,
                follows=tuple(self._follows),
                left=self._left,
                peak_bytes=peak_bytes,
            )
        if self._results is not None:
            self._results.settle(payload if type(end) is TaskFinished else None)
        self._send_end(number, end)
        self._cell.end(number)

    def _call_all(self, run: RunTask, failures: list[Failure], kept: list[int]) -> Payload | None:
        """Run the slice's calls; return their packed results, and add their exceptions to `failures`."""
        try:
            fresh_imports.refresh()
            calls, placement = calling.prepare(run, self._blobs)
        except BaseException as error:
            self._stop_if_asked(error)
            failures += [calling.failure_of(error, offset, run, self.name) for offset in range(run.items)]
            return None
        if placement:
            placement.put()  # until the slice is over
        results: list[Any] = []
        if run.items > 1:
            self._parts.begin(self._number, run, results, failures, kept)
        while (at := len(results)) < run.items - self._left:
            try:
                portion = calls.portion(at)
            except BaseException as error:
                self._failed(run, calls, at, error, failures)
                results.append(None)
                self._passed(run, at)
            else:
                self._call_each(run, calls, portion, results, failures, kept)
        if run.items > 1:
            self._parts.end()
        if len(failures) == run.items - self._left:
            return None
        results += [None] * self._left
        return calling.pack(run, results, failures, self._max_bytes)

    def _call_each(
        self,
        run: RunTask,
        calls: calling.Prepared,
        portion: Iterable[Call],
        results: list[Any],
        failures: list[Failure],
        kept: list[int],
    ) -> None:
        """Run prepared calls one after another; the body of the loop is the overhead of each call."""
        function, modules, items, offset = calls.function, sys.modules, run.items, len(results)
        words, place = self._cell.place
        for args, kwargs in portion:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # SystemExit too: sys.exit in a task must not end the worker
                result = self._raised(run, calls, offset, error, failures, kept)
            results.append(result)
            if marks.raised or FIGURES in modules or perf_counter() > self._tell_at:
                if self._nested.has_submitted and result is not None:
                    self._take_over(run, calls, offset, results, failures)
                self._passed(run, offset)
                if self._left:
                    return
            offset += 1
            if offset < items:
                words[place] = offset

    def _raised(
        self,
        run: RunTask,
        calls: calling.Prepared,
        offset: int,
        error: BaseException,
        failures: list[Failure],
        kept: list[int],
    ) -> Any:
        """Handle a call that has raised: return what it emitted if it was stopped early, else record the failure."""
        if type(error) is task_api.StoppedAndKept and self._live.is_to_end:
            return self._kept(run, offset, failures, kept)
        self._failed(run, calls, offset, error, failures)
        return None

    def _take_over(
        self, run: RunTask, calls: calling.Prepared, offset: int, results: list[Any], failures: list[Failure]
    ) -> None:
        """Handle a call that has returned a task it submitted: the call ends as that task does."""
        takes_over = self._nested.takes_over
        try:
            name = takes_over(results[-1]) if takes_over is not None else ""
        except BaseException as error:
            results[-1] = None
            self._failed(run, calls, offset, error, failures)
            return
        if name:
            results[-1] = None
            self._parts.give_up()
            self._follows.append((offset, name))

    def _failed(
        self, run: RunTask, calls: calling.Prepared, offset: int, error: BaseException, failures: list[Failure]
    ) -> None:
        """Record the exception of a call; its place among the results stays empty."""
        self._stop_if_asked(error)
        self._checkpoints.flush()
        failures.append(calling.failure_of(error, offset, run, self.name, calls.said(offset)))

    def _passed(self, run: RunTask, offset: int) -> None:
        """Do the pending work between two calls."""
        marks.raised = False
        if self._interrupted:  # the task has caught the KeyboardInterrupt
            raise KeyboardInterrupt
        self._checkpoints.returned()
        if self._live.spoke or bars.open or FIGURES in sys.modules:
            self._end_item()
        if offset + 1 == run.items:
            return
        if self._output.has_written:
            self._label_output(run, offset)
        if self._parts.due:
            self._say_parts()
        if self._cell.is_to_hand_back(self._number):
            self._left = run.items - offset - 1
            return
        words, place = self._cell.place
        words[place] = offset + 1
        if perf_counter() > self._tell_at:
            self._tell_at = perf_counter() + TELL_EVERY_S
            self._tell(0.0, "")

    def _say_parts(self) -> None:
        """Report early results with interrupts blocked, so that the report and its record stay together."""
        number, self._number = self._number, 0
        self._parts.report()
        self._number = number
        if self._cell.is_to_stop(number):
            self._number, self._interrupted = 0, True
            raise KeyboardInterrupt

    def _kept(self, run: RunTask, offset: int, failures: list[Failure], kept: list[int]) -> Any:
        """Return the result of a call that was stopped early."""
        if self._live.has_emitted:
            kept.append(offset)
            return self._live.emitted
        failures.append(calling.nothing_emitted(run, offset))
        return None

    def _label_output(self, run: RunTask, offset: int) -> None:
        """Send this item's output under its number, before the next item begins."""
        number = self._number
        self._output.flush_own()
        self._cell.tidy()
        for message in self._output.take(run, offset):
            self._channel.send(number, message)
        self._cell.resume(number)

    def _end_item(self) -> None:
        """Finish what the call has left: open figures, its last emitted value, bars that it has not closed."""
        if FIGURES in sys.modules:
            try:
                displays.show_figures()
            except BaseException:
                self._stop_if_asked(None)
                traceback.print_exc()
        bars.clear()
        self._live.end_item()

    def _stop_if_asked(self, error: BaseException | None) -> None:
        if self._interrupted:
            raise KeyboardInterrupt from error

    def _on_interrupt(self, *_: object) -> None:
        """Handle SIGINT: stop the attempt that the hub has named in the control page, if it is still current."""
        if self._number and self._cell.is_to_stop(self._number):
            self._number, self._interrupted, marks.raised = 0, True, True
            raise KeyboardInterrupt

    # ── progress ──

    def _report(self, percent: float, note: str) -> None:
        """Report progress of the current call; raise StoppedAndKept if it must end now."""
        self._tell(percent, note)
        self._live.check()

    def _tell(self, percent: float, note: str) -> None:
        """Report progress of the current call as progress of its slice."""
        run = self._run
        if run is None:
            return
        if note:
            note = clean(note, NOTE_BYTES) if type(note) is str else text_of(note, NOTE_BYTES)
        if run.items > 1:
            told = self._parts.told
            percent = (100.0 * max(0, self._cell.item - told) + percent) / (run.items - told)
        number = self._number
        if number and self._cell.report(number, percent, note.encode()[:NOTE_BYTES] if note else b""):
            message = TaskProgressed(task=run.task, attempt=run.attempt, first=run.first, progress=percent, note=note)
            self._channel.send(number, message)

    def _tidy_up(self, number: int, run: RunTask) -> None:
        """Send the slice's output under its number, before its end is reported."""
        self._state.restore_streams()
        self._state.restore()
        self._serve_tasks()
        self._live.end()
        self._checkpoints.end()
        self._nested.end()
        displays.forget_warnings()
        self._output.flush()
        self._cell.tidy()
        for message in self._output.take(run, self._cell.item):
            self._channel.send(number, message)

    def _send_end(self, number: int, end: TaskFinished | TaskStopped) -> None:
        try:
            self._channel.send(number, end)
        except OSError as error:  # no memory for a large result
            if not isinstance(end, TaskFinished) or isinstance(error, ConnectionError):
                raise
            failures = calling.all_failed(end, "MemoryError", f"the result could not be handed to the hub: {error}")
            self._channel.send(number, failures)


# ── start of the process ────────────────────────────────────────────────────────────────────────────────────────────


def main(name: str, settings: WorkerSettings, fds: Mapping[str, int]) -> int:
    """Run a worker in the process that the fork server has just forked; return its exit code."""
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(fds["stdout_write"], 1)
    os.dup2(fds["stderr_write"], 2)
    os.close(fds["stdout_write"])
    os.close(fds["stderr_write"])
    sys.stdout, sys.stderr = own_stream(1), own_stream(2)
    _settle(settings)
    # After a crash in C code, the last output is the Python stack of the thread that crashed, not of ours.
    faulthandler.enable(file=2, all_threads=False)
    faulthandler.register(STACK_SIGNAL, file=2, all_threads=False)
    cell = ControlPage(fds["cell"])
    os.close(fds["cell"])
    output = WorkerOutput(fds["stdout_read"], fds["stderr_read"], cell.order)
    worker = WorkerLoop(name, Channel.of_worker(fds["channel"]), cell, output, settings, fds["asked"])
    with contextlib.suppress(ConnectionError):  # the hub is gone
        worker.serve()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    output.flush()
    return 0


def set_priority(niceness: int) -> None:
    """Set the niceness of this worker, and let the kernel kill it first when memory is used up."""
    niceness = min(niceness, 19)
    try:
        if niceness:
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except PermissionError:
        print(f"this account may not give a worker the niceness {niceness}; it runs at the hub's", file=sys.stderr)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("300")  # instead of the hub, the core or the notebook


def _settle(settings: WorkerSettings) -> None:
    """Apply the group's environment, niceness and limits, and create a __main__ for the tasks."""
    if os.environ.get("MPLBACKEND", "").startswith("module:"):
        os.environ["MPLBACKEND"] = "agg"  # instead of the notebook's, which the hub has inherited
    os.environ.update(settings.env)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        # Each worker gets its share of the cores: libraries that each use all cores slow each other down.
        os.environ.setdefault(variable, str(settings.threads))
    if not settings.account:  # else that was done before root's rights were given up
        set_priority(settings.niceness)
    max_processes = settings.max_processes
    if max_processes:  # per account: the bound for a fork bomb
        soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        if soft == resource.RLIM_INFINITY or soft > max_processes:
            resource.setrlimit(resource.RLIMIT_NPROC, (max_processes, hard))
    if settings.memory_mb:
        # The hub enforces the limit (memory_watch.py). This bounds a single too large allocation: MemoryError.
        most = (settings.memory_mb * 3 // 2 + SPARE_MB) << 20
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
    sys.argv = [""]
    sys.modules["__main__"] = types.ModuleType("__main__")
