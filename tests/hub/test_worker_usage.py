"""CPU and memory of processes, measured from /proc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nblb.hub import worker_usage
from nblb.hub.worker_usage import WorkerUsage, cpu_s
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")  # noqa: PTH110


def test_a_busy_process_and_an_idle_one() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        usage = WorkerUsage()
        usage.measure({"busy": busy.pid, "idle": os.getpid()})

        def is_seen() -> bool:
            use = {one.worker: one for one in usage.measure({"busy": busy.pid, "idle": os.getpid()})}
            return use["busy"].cpu > 5.0 and use["busy"].memory_mb > 0

        wait_until(is_seen, 20, "CPU time of the busy process", every_s=0.3)
    finally:
        busy.kill()
        busy.wait()
    assert cpu_s(2**22 + 1) == 0.0


def test_many_workers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_usage, "MOST_WORKERS", 2)
    pids = {f"w{n}": os.getpid() for n in range(5)}
    usage = WorkerUsage()
    assert [len(usage.measure(pids)) for _ in range(4)] == [2, 4, 5, 5]
    assert usage.measure({}) == ()
