"""nblb top: its text, and the live screen in a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import nblb as lb
from nblb import cli
from nblb.cli import top
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


def test_once(cluster: Cluster, parameters_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    job = lb.task(time.sleep).map([60] * 5, job="sleepers")
    wait_until(lambda: job.snapshot().counts.get("RUNNING"), 30, "a running task")
    assert cli.main(["top", "-p", parameters_file]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\d of \d workers busy, \d queued", said)
    assert re.search(r"\d+ +\S+ +busy +sleep ", said)
    assert re.search(r"sleepers .* 0 %", said)
    assert cli.main(["top", "-p", parameters_file, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(top.TOPICS)
    job.cancel(kill=True, wait=30)


def test_many_workers_leave_room_for_users_and_jobs() -> None:
    worker = {"hub": "h", "pid": 7, "host": "a", "state": "idle", "suspect": False, "task_name": "", "user": "",
              "progress": 0.0, "since_s": 3.0, "own_cpu": None, "memory_mb": 64}  # fmt: skip
    status = {"name": "lab", "busy": 0, "workers": 500, "queued": 0, "running": 0, "counts": {"DONE": 1, "FAILED": 0}}
    picture = {"status": status, "hubs": [], "users": [], "jobs": [],
               "workers": [{**worker, "worker": str(number)} for number in range(500)]}  # fmt: skip
    lines = top.text(picture, 24).splitlines()
    assert len(lines) == 24
    assert any("more workers" in line for line in lines)
    assert "no job goes on" in lines


@pytest.mark.parametrize("width", [3, 12, 200])
def test_lines_are_cut_without_their_colours(width: int) -> None:
    cut = top._cut("\x1b[1mname\x1b[0m  state", width)
    assert re.sub(r"\x1b\[\d+m", "", cut) == "name  state"[:width]
    assert cut.count("\x1b") == 2, "a colour that began also ends"


def test_in_a_terminal_until_q(cluster: Cluster, parameters_file: str) -> None:
    here, there = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    words = [sys.executable, "-m", "nblb", "top", "-p", parameters_file, "--every", "0.2"]
    with subprocess.Popen(words, stdin=there, stdout=there, stderr=there, env=environment) as process:
        os.close(there)
        seen = b""

        def has(text: bytes) -> bool:
            nonlocal seen
            with contextlib.suppress(OSError):  # the program has ended, and all that it wrote is read
                while select.select([here], [], [], 0.05)[0]:
                    seen += os.read(here, 65536)
            return text in seen

        wait_until(lambda: has(b"workers busy") and seen.count(b"\x1b[H") > 2, 60, "several pictures")
        assert b"\x1b[1m" in seen, "headings are bold on a terminal"
        os.write(here, b"q")
        wait_until(lambda: has(b"\x1b[?1049l"), 20, "the first screen again")
        assert process.wait(20) == 0
    os.close(here)
