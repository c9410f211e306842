"""The core is killed with ten thousand tasks queued, running and uncollected: each runs once, and each result is there.

NBLB_MANY_TASKS=1000 makes it fewer. Each run leaves a line on disk, so what has run is not taken from anybody's word.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nblb as lb
from nblb import launch
from tests.end_to_end.test_crashes import kill
from tests.waiting import all_accepted, wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

TASKS = int(os.environ.get("NBLB_MANY_TASKS", "10000"))
DONE = TASKS * 2 // 5  # before the gate, so their results wait in the core
SINGLE = TASKS // 10
DEADLINE_S = 200.0

CLIENT = """
import json, sys
import nblb as lb
from tests.end_to_end.test_ten_thousand import counted
cluster = lb.connect(json.loads(sys.argv[1]))
folder, done, number = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
job = counted.map([folder] * number, range(number), [done] * number, job="ten thousand", chunksize=1)
while sum(sum(row.counts.values()) for row in cluster.jobs()) < number:
    job.wait(0.1)
print("accepted", flush=True)
sys.stdin.read()
"""


@lb.task
def counted(folder: str, x: int, gate: int) -> int:
    """Leaves a line; from item `gate` on it waits until the gate is open."""
    with open(Path(folder) / str(os.getpid()), "a") as file:
        file.write(f"{x}\n")
    while x >= gate and not (Path(folder) / "open").exists():
        time.sleep(0.01)
    return 3 * x


def runs(folder: Path) -> Counter[int]:
    """How often each item has begun."""
    return Counter(int(line) for path in folder.iterdir() for line in path.read_text().split())


def at_gate(folder: Path) -> set[int]:
    return {x for x in runs(folder) if x >= DONE}


@pytest.mark.timeout(600)
def test_a_core_killed_with_ten_thousand_tasks_has_them_all(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    many = TASKS - SINGLE
    words = [sys.executable, "-c", CLIENT, json.dumps(parameters.as_dict()), str(folder), str(DONE), str(many)]
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "accepted\n"
    finally:
        client.kill()  # so nobody collects what is done
        client.communicate()
    futures = [counted.submit(str(folder), x, DONE) for x in range(many, TASKS)]
    # A few from before the gate may wait behind it: what was sent ahead to a worker can come back late.
    wait_until(lambda: len(at_gate(folder)) == 2, DEADLINE_S, "two tasks to stand at the gate", 0.1)
    wait_until(lambda: all_accepted(cluster), DEADLINE_S, "all to be accepted", 0.1)
    before = at_gate(folder)
    kill(parameters, "core")
    launch.start(parameters, monitor=False).close()
    wait_until(lambda: cluster.status().running == 2, DEADLINE_S, "the core to know again what runs", 0.1)
    assert at_gate(folder) == before
    (folder / "open").touch()
    assert [future.result(DEADLINE_S) for future in futures] == [3 * x for x in range(many, TASKS)]
    assert lb.attach("ten thousand").results() == [3 * x for x in range(many)]
    begun = runs(folder)
    assert begun == Counter(range(TASKS))
