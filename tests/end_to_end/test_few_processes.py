"""A cluster that may start no further process: it says so, what runs goes on, and the next process starts later.

The limit is that of a cgroup, since the one of an account (`ulimit -u`) does not apply to root; the system call fails
in the same way.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/pids"))  # versions 2 and 1

SCRIPT = """
import sys, time
from pathlib import Path
group = Path(sys.argv[1])
(group / "cgroup.procs").write_text("0")
import nblb as lb

def most(number):
    (group / "pids.max").write_text(str(number))

def until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)

def now():
    return int((group / "pids.current").read_text())

def starts_a_process():
    import subprocess
    return subprocess.run(["true"]).returncode

for number in (1, 2, 3, 6):  # at each number of processes it is something else that cannot be started
    most(number)
    try:
        with lb.start(sys.argv[2], monitor=False):
            pass
    except lb.NblbError as error:
        print("start", number, ":", " ".join(str(error).split()))
most("max")
with lb.start(sys.argv[2], monitor=False) as cluster:
    until(lambda: len(cluster.workers()) == 2, "two workers")
    core = cluster.status().core.pid
    lb.task(abs).map(range(10)).results(60)
    most(now())
    error = lb.task(starts_a_process).submit().exception(60)
    print("task:", type(error).__name__)
    cluster.scale(5)
    assert lb.task(abs).map(range(-100, 0)).results(60) == list(range(100, 0, -1))
    until(lambda: "could not be started" in Path(sys.argv[3], "logs", "hub.log").read_text()
          or "could not be started" in Path(sys.argv[3], "logs", "core.log").read_text(), "a word")
    print("workers:", len([w for w in cluster.workers() if w.state in ("idle", "busy")]) >= 2)
    most("max")
    until(lambda: len(cluster.workers()) == 5, "five workers")
    assert lb.task(starts_a_process).submit().result(60) == 0
    print("same core:", cluster.status().core.pid == core, len(cluster.hubs()))
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup whose number of processes can be limited."""
    for root in ROOTS:
        group = root / f"nblb-pids-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if not (group / "pids.max").exists():  # no such controller here
            group.rmdir()
            continue
        yield group
        wait_until(lambda group=group: not (group / "cgroup.procs").read_text(), 20, "the group to be empty")
        group.rmdir()
        return
    pytest.skip("this account cannot make a cgroup with a limit of processes")


def test_a_full_group_of_processes_is_said_and_survived(group: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps(settings))
    words = [sys.executable, "-c", SCRIPT, str(group), str(file), settings["LB_STATE_DIR"]]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    said = dict(line.partition(": ")[::2] for line in done.stdout.splitlines())
    refused = [sentence for when, sentence in said.items() if when.startswith("start")]
    assert len(refused) >= 3, done.stdout + done.stderr
    for sentence in refused:
        assert re.search("(can|could) not be started|cannot be started", sentence), done.stdout + done.stderr
        assert "Traceback" not in sentence
    assert said.get("task") == "TaskFailed", done.stdout + done.stderr
    assert said.get("workers") == "True", done.stderr
    assert said.get("same core") == "True 1", done.stderr
