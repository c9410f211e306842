"""Shared parts of the partition tests: short times, a task that reports where it runs, and a remote hub."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nblb as lb
from nblb.launch.roles import hand_over
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.parameters import Parameters

SCALE = float(os.environ.get("NBLB_PARTITION_S", "0.1"))  # 1 is the default times: suspect after 5 s, lost after 15 s
LEASE_S = 15 * SCALE
TIMES = {"LB_HEARTBEAT_S": 1 * SCALE, "LB_SUSPECT_S": 5 * SCALE, "LB_LEASE_S": LEASE_S}
SLACK_S = 0.0 if SCALE >= 1 else 10.0  # a busy machine takes as long for short times as for long ones
ROOT = Path(__file__).parents[2]


@lb.task
def run(path: str, seconds: float) -> str:
    """Says in a file who begins, who ends and who is stopped; the result names the run."""
    name = f"{os.getpid()}"
    if Path(path).exists():  # the second attempt need not take so long
        seconds = 0.1
    with open(path, "a") as file:
        file.write(f"begin {name}\n")
        file.flush()
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            file.write(f"stop {name}\n")
            raise
        file.write(f"end {name}\n")
    return name


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def begun(path: Path) -> list[str]:
    """Who has begun the run of this file."""
    return [line.split()[1] for line in lines(path) if line.startswith("begin")]


@contextlib.contextmanager
def elsewhere(parameters: Parameters, runtime_base: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Another computer's runtime folder for the same cluster, and the environment of processes there."""
    base = Path(tempfile.mkdtemp(dir=runtime_base))
    folder = base / parameters.runtime_dir.name
    folder.mkdir(mode=0o700)
    try:
        yield folder, os.environ | {"NBLB_RUNTIME_DIR": str(base), "PYTHONPATH": str(ROOT)}
    finally:
        shutil.rmtree(base)


@contextlib.contextmanager
def process(command: Sequence[str], environment: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """One that is ended with the block."""
    one = subprocess.Popen(command, env=environment, text=True, stderr=subprocess.STDOUT, cwd=ROOT, **options)
    try:
        yield one
    finally:
        one.terminate()
        try:
            one.wait(60)
        finally:
            one.kill()
            one.wait()
            if one.stdout is not None:
                one.stdout.close()


@contextlib.contextmanager
def hub(
    cluster: lb.Cluster, parameters: Parameters, environment: dict[str, str], at: Sequence[str] = ()
) -> Iterator[None]:
    """A hub with that environment, once its workers are there; `at` are the words that start a command there."""
    command = [*at, sys.executable, "-m", "nblb", "hub", "--parameters", str(hand_over(parameters))]
    with process(command, environment, stdout=subprocess.DEVNULL) as one:
        wait_until(lambda: [row.pid for row in cluster.hubs() if row.workers] == [one.pid], 30, "the far hub")
        yield
