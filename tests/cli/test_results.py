"""nblb logs, result, inbox, forget and scale, with a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import nblb as lb
from nblb import cli
from nblb.host import account
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


def _half(x: int) -> float:
    if x < 0:
        raise ValueError(f"{x} is below zero")
    print(f"half of {x}")
    return x / 2


def run(parameters_file: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: this one has a cluster of its own."""
    return subprocess.run(
        [sys.executable, "-m", "nblb", words[0], "-p", parameters_file, *words[1:]],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_results_of_jobs_items_and_tasks(cluster: Cluster, parameters_file: str) -> None:
    job = lb.task(_half).map([1, -2, 3], job="halves")
    single = lb.task(_half).submit(8)
    assert single.result(60) == 4
    job.wait(60)
    told = run(parameters_file, "result", "halves")
    assert told.returncode == 1
    assert told.stdout == "[0] 0.5\n[2] 1.5\n"
    assert told.stderr == "[1] ValueError: -2 is below zero at test_results.py line 24\n"
    told = run(parameters_file, "result", "halves[2]")
    assert (told.returncode, told.stdout) == (0, "1.5\n"), told.stderr
    told = run(parameters_file, "result", single.task_id, "--json")
    assert (told.returncode, json.loads(told.stdout)) == (0, 4.0), told.stderr
    told = run(parameters_file, "result", "halfs")
    assert told.returncode == 1
    assert "did you mean halves?" in told.stderr
    assert run(parameters_file, "result", "halves[7]").returncode == 1


def test_a_result_that_takes_too_long(cluster: Cluster, parameters_file: str) -> None:
    import time

    job = lb.task(time.sleep).map([60], job="sleeper")
    told = run(parameters_file, "result", "sleeper", "--timeout", "0.2")
    assert told.returncode == 1
    assert "sleeper has not ended after 0.2 s" in told.stderr
    job.cancel(kill=True, wait=30)


def test_logs_of_tasks_and_processes(cluster: Cluster, parameters_file: str) -> None:
    lb.task(_half).map([1, 2], job="halves").wait(60)
    wait_until(lambda: run(parameters_file, "logs", "halves[1]").stdout == "half of 2\n", 30, "the output")
    assert run(parameters_file, "logs", "halves[1]", "--follow").stdout == "half of 2\n"
    assert "Load Balancer" in run(parameters_file, "logs", "core", "-n", "500").stdout
    assert "── hub" in run(parameters_file, "logs").stdout
    assert run(parameters_file, "logs", "nonsense").returncode == 1


def test_forget(cluster: Cluster, parameters_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    import time

    for name in ("one", "two", "three"):
        lb.task(_half).map([1], job=name).wait(60)
    going = lb.task(time.sleep).map([60], job="going")
    single = lb.task(_half).submit(8)
    single.result(60)

    def names() -> list[str]:
        return sorted(row.name for row in cluster.jobs())

    assert run(parameters_file, "forget", "one").stdout == "one: forgotten\n"
    assert names() == ["going", "three", "two"]
    told = run(parameters_file, "forget", "going", "nonsense")
    assert told.returncode == 1
    assert "going: goes on; --running cancels and drops it, too" in told.stdout
    assert "nonsense: unknown" in told.stdout
    assert run(parameters_file, "forget", "--ended").stdout == "2 jobs forgotten, with all results\n"
    assert names() == ["going"]
    assert run(parameters_file, "forget", "going", "--running").returncode == 0
    assert names() == []
    assert run(parameters_file, "forget", single.task_id).stdout == f"{single.task_id}: forgotten\n"
    assert cli.main(["forget", "-p", parameters_file]) == 1
    assert "give names or ids" in capsys.readouterr().err
    going.cancel()


def test_inbox(cluster: Cluster, parameters_file: str) -> None:
    code = (
        "import os, nblb as lb; lb.connect(os.environ['PARAMETERS'])\n"
        "def fit(x): import time; time.sleep(1); return x\n"
        "lb.task(fit).map([100], job='away')"
    )
    environment = {**os.environ, "JPY_SESSION_NAME": "lab.ipynb", "PARAMETERS": parameters_file}
    subprocess.run([sys.executable, "-m", "IPython", "-c", code], check=True, timeout=60, env=environment)

    def rows() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(run(parameters_file, "inbox", "--json").stdout)
        return [row for row in found if row["name"] == "away"]

    (row,) = wait_until(rows, 30, "the job in the inbox")
    assert (row["kind"], row["state"], row["call"]) == ("job", "done", "fit(100)")
    assert "away" in run(parameters_file, "inbox").stdout


def test_scale(cluster: Cluster, parameters_file: str) -> None:
    assert run(parameters_file, "scale", "3").stdout == "scaling the cluster to 3 workers\n"
    wait_until(lambda: cluster.status().workers == 3, 30, "three workers")
    hub = cluster.hubs()[0].name
    assert json.loads(run(parameters_file, "scale", "1", hub, "--json").stdout) == {"workers": 1, "hub": hub}
    wait_until(lambda: cluster.status().workers == 1, 30, "one worker")
    assert run(parameters_file, "scale", "1", "no-hub").returncode == 1


def test_rows_of_jobs_have_their_size(cluster: Cluster, parameters_file: str) -> None:
    lb.task(bytes).map([100_000], job="large").wait(60)
    (row,) = cluster.jobs(account())
    assert 100_000 <= row.stored_bytes < 120_000
    assert "size" in (said := run(parameters_file, "jobs").stdout)
    assert " kB" in said
