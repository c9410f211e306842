"""A real cluster whose number of workers follows its load, also after its core was killed."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import nblb as lb
from nblb.cli import main
from tests.waiting import wait_until


def size(cluster: Any) -> int:
    return int(cluster.status().workers)


def test_workers_come_with_work_and_go_without_and_the_next_core_goes_on(cluster: Any) -> None:
    @lb.task
    def nap(n: int) -> int:
        time.sleep(0.3)
        return n

    cluster.adapt(0, 3, idle_s=1.0)
    wait_until(lambda: size(cluster) == 0, 30, "all workers have ended")
    assert cluster.status().adapts["text"].startswith("adapts between 0 and 3 workers: 0 wanted")
    job = nap.map(range(40))
    wait_until(lambda: size(cluster) == 3, 30, "as many as allowed")
    wait_until(lambda: cluster.snapshot().adapts.startswith("adapts between 0 and 3 workers"), 30, "the card says it")
    assert job.results(60) == list(range(40))
    wait_until(lambda: size(cluster) == 0, 30, "they have ended again")
    before = cluster.status().core.pid
    os.kill(before, signal.SIGKILL)
    lb.start(cluster.parameters, monitor=False)
    wait_until(lambda: cluster.connected and cluster.status().core.pid != before, 30, "another core")
    assert nap.submit(7).result(60) == 7
    assert cluster.status().adapts["maximum"] == 3
    cluster.scale(2)
    wait_until(lambda: size(cluster) == 2 and cluster.status().adapts is None, 30, "scaled by hand")


def test_the_command(cluster: Any, capsys: Any) -> None:
    source = str(cluster.parameters.runtime_dir / "parameters.json")
    assert main(["scale", "--adapt", "1", "4", "-p", source]) == 0
    assert "adapts between 1 and 4 workers" in capsys.readouterr().out
    assert main(["status", "-p", source]) == 0
    assert "scaling   adapts between 1 and 4 workers" in capsys.readouterr().out
    assert main(["scale", "--adapt", "off", "-p", source]) == 0
    assert "no longer follows the load" in capsys.readouterr().out
    assert main(["scale", "2", "-p", source]) == 0
    assert main(["scale", "-p", source]) == 1
    assert "--adapt off" in capsys.readouterr().err
