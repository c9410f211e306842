"""Real workers: results, failures, interrupts, causes of death, output, large payloads."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nblb
from nblb import payload
from nblb.hub.slots.attempts import WorkerSpent
from nblb.protocol.messages import (
    HoldBlob,
    RunTask,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStopped,
    WorkerDied,
    WorkerStarted,
)
from nblb.worker.channel import STACK_SIGNAL
from tests.hub.pool_rig import DEADLINE_S, PoolRig
from tests.waiting import wait_until

INFINITY = float("inf")


@pytest.fixture
def rig() -> Iterator[PoolRig]:
    with contextlib.closing(PoolRig()) as rig:
        yield rig


def double(x: Any) -> Any:
    return 2 * x


def spin(file: str) -> None:
    """Runs until it is stopped; says that it has begun by making the file."""
    open(file, "w").close()
    while True:
        time.sleep(0.001)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def printed(rig: PoolRig, run: RunTask, stream: str = "stdout") -> str:
    return "".join(
        m.text for _, m in rig.events if isinstance(m, TaskPrinted) and m.task == run.task and m.stream == stream
    )


# ── calls ──


def test_a_call_returns_its_result(rig: PoolRig) -> None:
    assert rig.result(double, 21) == 42
    assert rig.result(lambda x: x + 1, 1) == 2


def test_a_slice_of_many_calls(rig: PoolRig) -> None:
    def odd_ones_raise(x: int) -> int:
        if x % 2:
            raise ValueError(f"odd {x}")
        return x * 10

    end = rig.end_of(rig.give_many(odd_ones_raise, [0, 1, 2, 3]))
    assert end.items == 4
    assert end.payload is not None
    assert payload.unpack_results(end.payload) == [0, None, 20, None]
    assert [(f.offset, f.kind, f.message) for f in end.failures] == [
        (1, "ValueError", "odd 1"),
        (3, "ValueError", "odd 3"),
    ]
    assert "odd_ones_raise" in end.failures[0].traceback


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError])
def test_whatever_a_task_raises_its_worker_lives(rig: PoolRig, how: type[BaseException]) -> None:
    def raise_it() -> None:
        raise how("on purpose")

    end = rig.end_of(rig.give(raise_it))
    assert end.failures[0].kind == how.__name__
    assert rig.result(double, 2) == 4


def test_a_result_that_cannot_travel_is_a_failure_of_its_item(rig: PoolRig) -> None:
    def sometimes_a_lock(x: int) -> Any:
        import threading

        return threading.Lock() if x == 1 else x

    end = rig.end_of(rig.give_many(sometimes_a_lock, [0, 1, 2]))
    assert end.payload is not None
    assert payload.unpack_results(end.payload) == [0, None, 2]
    assert [(f.offset, f.kind) for f in end.failures] == [(1, "NotSerializable")]


def test_a_function_that_cannot_be_loaded_fails_its_calls_only(rig: PoolRig) -> None:
    rig.pool.store_blob(HoldBlob(hash="bad", payload=payload.dump_constant(3)[1]))
    run = RunTask(task="t", attempt=1, name="f", function="bad", payload=payload.pack_call((), {}).payload)
    rig.pool.give("worker_0", run)
    assert rig.end_of(run).failures
    assert rig.result(double, 2) == 4


def test_large_arguments_and_results_come_back_whole(rig: PoolRig) -> None:
    data = os.urandom(3_000_000)
    assert rig.result(double, bytearray(data)) == bytearray(data + data)
    assert rig.result(lambda x: [x, x[:70_000], len(x)], data) == [data, data[:70_000], 3_000_000]
    many = [os.urandom(1000) for _ in range(400)]
    end = rig.end_of(rig.give_many(lambda x: x[::-1], many))
    assert end.payload is not None
    assert payload.unpack_results(end.payload) == [x[::-1] for x in many]


def test_an_argument_changed_in_place_changes_nobody_elses(rig: PoolRig) -> None:
    blob, packed = payload.dump_constant(bytearray(200_000))
    rig.pool.store_blob(HoldBlob(hash=blob, payload=packed))

    def change(data: bytearray) -> int:
        data[0] += 1
        return data[0]

    for n in range(3):
        function = rig.hold(change)
        call = payload.pack_call((_Handle(blob),), {})
        run = RunTask(
            task=f"t{n}", attempt=1, name="f", function=function, payload=call.payload, constants=call.constants
        )
        rig.pool.give("worker_0", run)
        end = rig.end_of(run)
        assert end.payload is not None, end.failures
        assert payload.unpack_results(end.payload) == [1]


class _Handle:
    def __init__(self, blob: str) -> None:
        self.blob = blob

    def __nblb_argument__(self) -> payload.Constant:
        return payload.Constant(self.blob)


def test_results_of_other_tasks_arrive_in_pieces(rig: PoolRig) -> None:
    for first, values, holes in ((0, [1, None, 3], (1,)), (1, [2], ()), (3, [4], ())):
        piece = HoldBlob(
            hash="other", payload=payload.pack_results(values), first=first, items=len(values), total=4, holes=holes
        )
        rig.pool.store_blob(piece)
    call = payload.pack_call((_Future(),), {})
    run = RunTask(task="t", attempt=1, name="f", function=rig.hold(sum), payload=call.payload, depends=call.depends)
    rig.pool.give("worker_0", run)
    end = rig.end_of(run)
    assert end.payload is not None, end.failures
    assert payload.unpack_results(end.payload) == [10]


class _Future:
    def __nblb_argument__(self) -> payload.Input:
        return payload.Input("other", None)


# ── progress ──


def test_a_slice_that_is_taken_while_its_blobs_are_read_back_waits_for_them(rig: PoolRig) -> None:
    function, packed = payload.dump_function(sum)
    rig.pool.store_blob(HoldBlob(hash=function, payload=packed))
    handle = rig.pool._handles["worker_0"]
    handle.held.add(
        function
    )  # it has been sent, and was read back an instant before the worker took what stood behind it
    runs = [
        RunTask(task=name, attempt=1, name="f", function=function, payload=payload.pack_call(([n, 1],), {}).payload)
        for n, name in enumerate("ab")
    ]
    for run in runs:
        rig.pool.give("worker_0", run)
    wait_until(lambda: not _unread(handle.far), what="the worker to take both")
    for parcel in rig.pool._blobs.of(function):
        rig.pool._post(handle, parcel)
    for n, run in enumerate(runs):
        end = rig.end_of(run)
        assert end.payload is not None, end.failures
        assert payload.unpack_results(end.payload) == [n + 1]


def _unread(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


def test_the_last_progress_is_always_told(rig: PoolRig) -> None:
    def report() -> None:
        for n in range(1000):
            nblb.progress(n / 10, f"step {n}")
        import time

        time.sleep(0.3)

    run = rig.give(report)
    rig.wait(TaskProgressed, lambda m: m.task == run.task and m.progress == 99.9 and m.note == "step 999")
    rig.end_of(run)
    told = [m for _, m in rig.events if isinstance(m, TaskProgressed)]
    assert len(told) < 30  # a thousand words, a few messages


def test_an_end_within_the_pause_between_two_looks_loses_no_last_word(rig: PoolRig) -> None:
    def report() -> None:
        import time

        for n in range(10):
            nblb.progress(n, f"step {n}")
            time.sleep(0.01)

    run = rig.give(report)
    now, deadline = time.monotonic(), time.monotonic() + DEADLINE_S
    while not any(isinstance(event, TaskFinished) for _, event in rig.events) and time.monotonic() < deadline:
        select.select([rig.pool.fileno], [], [], 0.05)
        rig.events += rig.pool.read(now)  # its clock stands: the pause is never over
    kinds = [type(event) for _, event in rig.events if getattr(event, "task", "") == run.task]
    told = [event.note for _, event in rig.events if isinstance(event, TaskProgressed)]
    assert told[-1] == "step 9"
    assert kinds[-1] is TaskFinished


def test_a_long_slice_tells_how_far_it_is(rig: PoolRig) -> None:
    def slow(x: int) -> int:
        import time

        time.sleep(0.03)
        nblb.progress(50)
        return x

    run = rig.give_many(slow, list(range(8)))
    rig.end_of(run)
    told = [m.progress for _, m in rig.events if isinstance(m, TaskProgressed)]
    assert told == sorted(told)
    assert told[-1] > 80.0


# ── output ──


def test_output_is_told_apart_by_task(rig: PoolRig) -> None:
    def talk(word: str) -> None:
        import ctypes
        import os
        import sys

        print(f"py {word}")
        ctypes.CDLL(None).printf(b"c %s\n", word.encode())  # stays in C's buffer
        sys.stderr.write(f"err {word}")
        os.system(f"echo child {word}")

    words = [f"w{n}" for n in range(50)]
    runs = [rig.give(talk, word) for word in words]
    for run, word in zip(runs, words, strict=True):
        rig.end_of(run)
        assert sorted(printed(rig, run).splitlines()) == sorted([f"py {word}", f"c {word}", f"child {word}"])
        assert printed(rig, run, "stderr") == f"err {word}"


def test_output_is_seen_while_the_task_runs_even_from_c(rig: PoolRig) -> None:
    def print_and_block() -> None:
        import ctypes

        libc = ctypes.PyDLL(None)  # holds the interpreter while it runs
        libc.puts(b"from C")
        libc.fflush(None)
        libc.usleep(400_000)

    run = rig.give(print_and_block)
    rig.wait(TaskPrinted, lambda m: m.task == run.task and "from C" in m.text)
    assert not any(m.task == run.task for _, m in rig.events if not isinstance(m, (TaskPrinted, WorkerStarted)))
    rig.end_of(run)


def test_endless_output_is_bounded_and_keeps_its_tail(rig: PoolRig) -> None:
    def shout() -> None:
        for n in range(200_000):
            print(f"line {n}")
        print("the end")

    run = rig.give(shout)
    rig.end_of(run)
    text = printed(rig, run)
    assert text.startswith("line 0\n")
    assert text.endswith("the end\n")
    assert "characters left out" in text
    assert len(text) < 400_000


def test_a_closed_or_replaced_stdout_is_given_back(rig: PoolRig) -> None:
    def close_it() -> None:
        import sys

        sys.stdout.close()

    def replace_it() -> None:
        import io
        import sys

        sys.stdout = io.StringIO()

    for harm in (close_it, replace_it):
        rig.end_of(rig.give(harm))
        run = rig.give(print, "hello")
        rig.end_of(run)
        assert printed(rig, run) == "hello\n"


# ── interrupts ──


def test_an_interrupt_stops_the_attempt_it_is_meant_for(rig: PoolRig, tmp_path: Any) -> None:
    run = rig.give(spin, str(tmp_path / "begun"))
    wait_until((tmp_path / "begun").exists)
    rig.pool.interrupt("worker_0", (run.task, 0, 1))
    stopped = rig.wait(TaskStopped)
    assert (stopped.task, stopped.ran) == (run.task, True)
    assert rig.result(double, 2) == 4


def test_a_late_interrupt_never_hits_the_next_task(rig: PoolRig) -> None:
    def short(x: int) -> int:
        return sum(range(x))

    runs = []
    for n in range(200):
        run = rig.give(short, n % 7 * 500)
        rig.pool.interrupt("worker_0", (run.task, 0, 1))
        runs.append((run, rig.give(double, n)))
    for n, (_, follower) in enumerate(runs):
        end = rig.end_of(follower)
        assert end.payload is not None
        assert payload.unpack_results(end.payload) == [2 * n]


def test_an_interrupt_that_comes_before_the_beginning_is_not_lost(rig: PoolRig, tmp_path: Any) -> None:
    for n in range(50):
        run = rig.give(spin, str(tmp_path / f"begun{n}"))
        rig.pool.interrupt("worker_0", (run.task, 0, 1))
        assert rig.wait(TaskStopped, lambda m, run=run: m.task == run.task).ran


def test_a_swallowed_interrupt_still_stops_the_slice_between_two_calls(rig: PoolRig, tmp_path: Any) -> None:
    def stubborn(file: str) -> None:
        import time

        open(file, "w").close()
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            pass

    files = [str(tmp_path / name) for name in "abc"]
    run = rig.give_many(stubborn, files)
    wait_until((tmp_path / "a").exists)
    rig.pool.interrupt("worker_0", (run.task, 0, 1))
    rig.wait(TaskStopped, lambda m: m.task == run.task)
    assert not (tmp_path / "b").exists()


# ── what lies in the socket can be taken back ──


def test_slices_that_were_not_begun_are_read_back(rig: PoolRig, tmp_path: Any) -> None:
    running = rig.give(spin, str(tmp_path / "begun"))
    wait_until((tmp_path / "begun").exists)
    waiting = [rig.give(double, os.urandom(n * 50_000)) for n in range(4)]
    rig.pool.take_back("worker_0")
    rig.pump()
    returned = [m.task for _, m in rig.events if isinstance(m, TaskStopped)]
    assert returned == [run.task for run in waiting]
    rig.pool.interrupt("worker_0", (running.task, 0, 1))
    rig.wait(TaskStopped, lambda m: m.task == running.task)
    assert rig.result(double, 2) == 4  # the blob of double was read back too, and sent again


# ── deaths ──


def test_a_killed_worker_is_blamed_exactly(rig: PoolRig, tmp_path: Any) -> None:
    finished = rig.give(double, 1)
    running = rig.give(spin, str(tmp_path / "begun"))
    waiting = rig.give(double, 2)
    wait_until((tmp_path / "begun").exists)
    os.kill(rig.wait(WorkerStarted).pid, signal.SIGKILL)
    died = rig.wait(WorkerDied)
    assert (died.task, died.attempt, died.first) == (running.task, 1, 0)
    assert died.reason.startswith("killed by signal 9 (SIGKILL)")
    kinds = {m.task: type(m).__name__ for _, m in rig.events if isinstance(m, TaskStopped) or hasattr(m, "payload")}
    assert kinds == {finished.task: "TaskFinished", waiting.task: "TaskStopped"}


def test_an_exit_code_and_last_words_are_told(rig: PoolRig) -> None:
    def exit_hard() -> None:
        import os
        import sys

        print("I cannot go on", file=sys.stderr)
        os._exit(3)

    run = rig.give(exit_hard)
    died = rig.wait(WorkerDied)
    assert died.task == run.task
    assert died.reason == "exit code 3 (os._exit?); its last output: I cannot go on"
    assert printed(rig, run, "stderr") == "I cannot go on\n"


def test_a_crash_in_compiled_code_names_the_line(rig: PoolRig) -> None:
    def crash() -> None:
        import ctypes

        ctypes.string_at(0)

    run = rig.give(crash)
    died = rig.wait(WorkerDied)
    assert died.task == run.task
    assert "signal 11 (SIGSEGV): a crash in compiled code" in died.reason
    assert "in crash" in died.reason


def test_a_kill_takes_the_process_group_along(rig: PoolRig, tmp_path: Any) -> None:
    def start_a_child(file: str) -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "60"])
        with open(file + ".part", "w") as out:
            out.write(str(child.pid))
        Path(file + ".part").rename(file)
        child.wait()

    run = rig.give(start_a_child, str(tmp_path / "pid"))
    wait_until((tmp_path / "pid").exists)
    child = int((tmp_path / "pid").read_text())
    assert is_alive(child)
    rig.pool.kill("worker_0", "it was time")
    assert rig.wait(WorkerDied).reason == "killed by its hub: it was time"
    assert rig.wait(WorkerDied).task == run.task
    wait_until(lambda: not is_alive(child))


def test_a_worker_over_its_memory_is_killed_and_told_so() -> None:
    def grow() -> int:
        import time

        data = []
        while len(data) < 40:
            data.append(bytearray(10_000_000))
        time.sleep(60)
        return len(data)

    with contextlib.closing(PoolRig(memory_mb=200)) as rig:
        rig.give(grow)
        reason = rig.wait(WorkerDied).reason
    assert re.match(r"killed for memory: \d\d\d MB of 200 MB, after \d+ s; its memory was .* MB at \d+ s", reason)
    assert re.search(r"its last output: Stack .*\n  File .* line \d+ in grow$", reason)


def test_a_worker_that_waits_for_a_processor_writes_its_stack_before_it_is_killed() -> None:
    def grow() -> None:
        import time

        data = bytearray(220_000_000)
        time.sleep(60)
        del data

    with contextlib.closing(PoolRig(memory_mb=200)) as rig:
        signal_now, late = rig.pool._fork_server.signal, []

        def signal_late(worker: str, number: int, group: bool) -> None:
            if number == STACK_SIGNAL and not late:
                late.append(time.monotonic())
                rig.pool._later(time.monotonic() + 0.4, lambda _: signal_now(worker, number, group))
            else:
                signal_now(worker, number, group)

        rig.pool._fork_server.signal = signal_late  # type: ignore[method-assign]
        rig.give(grow)
        reason = rig.wait(WorkerDied).reason
    assert late
    assert re.search(r"its last output: Stack .*\n  File .* line \d+ in grow$", reason)


def test_what_is_too_much_at_one_go_is_a_memory_error() -> None:
    def take() -> int:
        return len(bytearray(2_000_000_000))

    with contextlib.closing(PoolRig(memory_mb=200)) as rig:
        assert rig.end_of(rig.give(take)).failures[0].kind == "MemoryError"
        assert rig.result(double, 2) == 4


def test_the_memory_of_a_tasks_own_children_counts() -> None:
    def start_a_glutton() -> None:
        import subprocess
        import sys

        subprocess.run([sys.executable, "-c", "import time; a = bytearray(400_000_000); time.sleep(60)"], check=True)

    with contextlib.closing(PoolRig(memory_mb=200)) as rig:
        rig.give(start_a_glutton)
        assert "killed for memory" in rig.wait(WorkerDied).reason


def test_a_worker_that_has_grown_is_reported_before_its_end() -> None:
    def cling() -> int:
        import sys

        sys.kept = bytearray(150_000_000)
        return len(sys.kept)

    with contextlib.closing(PoolRig(max_rss_mb=100)) as rig:
        assert rig.result(double, 2) == 4
        assert not any(isinstance(event, WorkerSpent) for _, event in rig.events)
        rig.result(cling)
        kinds = [type(event) for _, event in rig.events]
        assert kinds[-2:] == [WorkerSpent, TaskFinished]


def test_a_broken_channel_kills_only_its_worker() -> None:
    def write_everywhere() -> None:
        import os

        for fd in range(3, 64):
            try:
                os.write(fd, b"garbage")
            except OSError:
                pass

    with contextlib.closing(PoolRig(2)) as rig:
        rig.give(write_everywhere)
        rig.wait(WorkerDied, lambda m: m.worker == "worker_0")
        assert rig.result(double, 2, worker="worker_1") == 4


# ── settings ──


def test_niceness_environment_and_threads() -> None:
    def look() -> tuple[int, str | None, str | None]:
        return os.nice(0), os.environ.get("HELLO"), os.environ.get("OMP_NUM_THREADS")

    with contextlib.closing(PoolRig(niceness=7, env={"HELLO": "there"}, threads=3)) as rig:
        assert rig.result(look) == (7, "there", "3")


def test_a_worker_is_a_clean_process(rig: PoolRig) -> None:
    def look() -> dict[str, Any]:
        import os
        import sys
        import threading

        open_ones = [fd.name for fd in Path("/proc/self/fd").iterdir() if int(fd.name) > 2]
        return {
            "group": os.getpgid(0) == os.getpid(),
            "threads": threading.active_count(),
            "main": sys.modules["__main__"].__dict__.get("__file__"),
            "zmq": "zmq" in sys.modules,
            "stdin": sys.stdin.read(),
            "descriptors": len(open_ones),
        }

    found = rig.result(look)
    assert found.pop("descriptors") <= 10  # with that of the listing itself
    assert found == {"group": True, "threads": 1, "main": None, "zmq": False, "stdin": ""}


def test_a_retired_worker_ends_by_itself(rig: PoolRig) -> None:
    assert rig.result(double, 1) == 2
    rig.pool.retire("worker_0")
    assert rig.wait(WorkerDied).reason == "it is not needed any more"


def test_eight_workers_are_ready_before_eight_interpreters_are() -> None:
    """Forked from one process that has imported what they need; it has to start first."""
    rounds = []
    for _ in range(5):  # others may have the machine during one of the two
        started = time.monotonic()
        with contextlib.closing(PoolRig(8)):
            forked_s = time.monotonic() - started
        started = time.monotonic()
        interpreters = [subprocess.Popen([sys.executable, "-c", "import nblb.worker.main"]) for _ in range(8)]
        assert [each.wait(60) for each in interpreters] == [0] * 8
        rounds.append((forked_s, time.monotonic() - started))
        if forked_s < rounds[-1][1]:
            return
    raise AssertionError(f"the workers took longer each time: {rounds}")


# ── nothing is left ──


def test_nothing_outlives_the_pool(tmp_path: Any) -> None:
    def daemonize(file: str) -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        with open(file + ".part", "w") as out:
            out.write(str(child.pid))
        Path(file + ".part").rename(file)

    with contextlib.closing(PoolRig(2)) as rig:
        rig.end_of(rig.give(daemonize, str(tmp_path / "pid")))
        pids = [m.pid for _, m in rig.events if isinstance(m, WorkerStarted)]
        pids.append(int((tmp_path / "pid").read_text()))
        assert all(map(is_alive, pids))
    wait_until(lambda: not any(map(is_alive, pids)))


def test_nothing_outlives_a_hub_that_is_killed(tmp_path: Any) -> None:
    code = (
        "from tests.hub.pool_rig import PoolRig\n"
        "from tests.hub.pool.test_process_pool import spin\n"
        "import psutil, sys\n"
        "rig = PoolRig(3)\n"
        "rig.give(spin, sys.argv[1])\n"
        "print(*[p.pid for p in psutil.Process().children(recursive=True)], flush=True)\n"
        "sys.stdin.read()\n"
    )
    hub = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "begun")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert hub.stdout is not None
        pids = list(map(int, hub.stdout.readline().split()))
        assert len(pids) == 4  # the nursery and its workers
        wait_until((tmp_path / "begun").exists)
    finally:
        hub.kill()
        hub.communicate()
    wait_until(lambda: not any(map(is_alive, pids)), 5)


def test_a_killed_nursery_is_replaced(rig: PoolRig) -> None:
    worker = rig.wait(WorkerStarted)
    with open(f"/proc/{worker.pid}/stat") as file:
        fork_server = int(file.read().rpartition(")")[2].split()[1])
    os.kill(fork_server, signal.SIGKILL)
    assert "fork server of its hub has ended" in rig.wait(WorkerDied).reason
    wait_until(lambda: not is_alive(worker.pid))
    rig.pool.start_worker("worker_9", 0, 0.0, time.monotonic())
    assert rig.result(double, 4, worker="worker_9") == 8


def test_an_idle_pool_does_nothing(rig: PoolRig) -> None:
    before = time.process_time()
    end = time.monotonic() + 0.5
    turns = 0
    while time.monotonic() < end:
        rig.pump(end - time.monotonic())
        turns += 1
    assert turns <= 3
    assert time.process_time() - before < 0.05


def test_results_that_no_part_of_a_message_can_carry_come_in_several() -> None:
    with contextlib.closing(PoolRig(max_message_mb=1)) as rig:
        for sizes in ([2_500_000], [10, 700_000, 600_000], [100_000] * 20):
            end = rig.end_of(rig.give_many(bytes, sizes))
            assert not end.failures
            assert end.payload is not None
            assert max(memoryview(part).nbytes for part in end.payload.buffers) <= 2**20
            assert payload.unpack_results(end.payload) == [bytes(size) for size in sizes]


def test_a_task_that_forks_is_answered_once(rig: PoolRig) -> None:
    def fork() -> str:
        return "child" if os.fork() == 0 else "parent"

    assert rig.result(fork) == "parent"
    assert rig.result(double, 2) == 4


def test_the_working_folder_and_alarms_do_not_outlive_a_task(rig: PoolRig, tmp_path: Path) -> None:
    def leave_a_mess(folder: str) -> None:
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.alarm(1)

    before = rig.result(os.getcwd)
    rig.end_of(rig.give(leave_a_mess, str(tmp_path)))
    assert rig.result(os.getcwd) == before
    run = rig.give(spin, str(tmp_path / "begun"))
    wait_until((tmp_path / "begun").exists)
    rig.pool.interrupt("worker_0", (run.task, 0, 1))
    assert rig.wait(TaskStopped, lambda m: m.task == run.task).ran


def test_a_pool_without_a_nursery_says_so(rig: PoolRig, monkeypatch: pytest.MonkeyPatch) -> None:
    os.kill(rig.pool._fork_server._process.pid, signal.SIGKILL)
    rig.wait(WorkerDied)

    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        rig.pool.start_worker("worker_8", 0, 0.0, time.monotonic())
        assert "could not be started" in rig.wait(WorkerDied, lambda m: m.worker == "worker_8").reason
    rig.pool.start_worker("worker_9", 0, 0.0, time.monotonic())
    assert rig.result(double, 4, worker="worker_9") == 8


def test_no_descriptor_is_left_behind_a_worker(rig: PoolRig) -> None:
    assert rig.result(double, bytes(200_000)) == bytes(400_000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for n in range(1, 6):
        rig.pool.kill(f"worker_{n - 1}", "test")
        rig.wait(WorkerDied, lambda m, n=n: m.worker == f"worker_{n - 1}")
        rig.pool.start_worker(f"worker_{n}", 0, 0.0, time.monotonic())
        assert rig.result(double, bytes(200_000), worker=f"worker_{n}") == bytes(400_000)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


FORK_UNTIL_REFUSED = """
import os, time
from nblb.worker import main
from tests.hub.pool_rig import worker_settings
settings = worker_settings(max_processes=20)
if os.getuid() == 0:
    os.setuid(65534)  # root is not bound
main._settle(settings)
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
except BlockingIOError:
    print("refused", flush=True)
os.killpg(0, 9)
"""


def test_a_fork_bomb_is_bounded_for_all_but_root() -> None:
    words = [sys.executable, "-c", FORK_UNTIL_REFUSED]
    root = Path(__file__).parents[3]
    said = subprocess.run(words, capture_output=True, text=True, cwd=root, start_new_session=True)
    assert said.stdout == "refused\n", said.stderr


def test_a_running_slice_ends_after_its_current_call_and_hands_the_others_back(rig: PoolRig) -> None:
    run = rig.give_many(sleep_shortly, list(range(42)))
    rig.wait(TaskProgressed)
    rig.pool.hand_back("worker_0", (run.task, run.first, run.attempt))
    end = rig.end_of(run)
    assert 0 < end.left < 42
    assert end.failures == ()
    assert end.payload is not None
    results = payload.unpack_results(end.payload)
    assert len(results) == end.items == 42
    assert results == [*range(42 - end.left), *[None] * end.left]
    assert rig.result(abs, -1) == 1


def sleep_shortly(x: int) -> int:
    time.sleep(0.05)
    return x
