"""`nblb demo`: shows a cluster at work for half a minute, without a notebook: progress, deaths, and shares of users."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nblb.cli.command import Commands, add, at_least_one
from nblb.errors import NblbError
from nblb.launch.one_shot import find
from nblb.parameters import load
from nblb.system import isolated_python

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.jobs.job import Job

WORKER_AT, CORE_AT = 30, 60  # percent of the tasks at which a worker and the core are killed
SHARED = 0.05  # of the tasks of the first user that the second one sends
PAUSE_S = 0.1
AWAY_S = 30.0


def register(commands: Commands) -> None:
    command = add(commands, "demo", demo, "estimate pi on a cluster of this machine's cores", parameters=False)
    command.add_argument("--tasks", type=at_least_one, default=200, help="number of tasks (200)")
    command.add_argument("--workers", type=at_least_one, default=None, help="number of workers (one per core)")


def dart(seed: int, throws: int = 200_000) -> int:
    """Returns how many of `throws` darts hit the quarter circle."""
    chance = random.Random(seed)
    return sum(chance.random() ** 2 + chance.random() ** 2 < 1 for _ in range(throws))


def demo(options: argparse.Namespace) -> int:
    """Start a separate cluster, estimate pi while a worker and the core are killed, share it, and stop it again."""
    import nblb as lb

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the cluster is stopped then, too
    with tempfile.TemporaryDirectory(prefix="nblb-demo-") as folder, contextlib.ExitStack() as at_end:
        parameters: dict[str, Any] = {"LB_NAME": "demo", "LB_STATE_DIR": f"{folder}/state", "WKHUB_WORKERS": []}
        at_end.callback(_remove_runtime_folder, parameters)
        with _watched(parameters, folder), lb.start(parameters, workers=options.workers, monitor=False) as cluster:
            print(f"a cluster of {len(cluster.workers())} workers: each task throws 200,000 darts")
            job = lb.task(dart).map(range(options.tasks), job="darts")
            _until(job, WORKER_AT)
            _kill_worker(cluster)
            _until(job, CORE_AT)
            _kill_core(cluster, parameters)
            _until(job, 100)
            print(f"\npi is about {4 * sum(job.results()) / (200_000 * options.tasks):.5f}, and no task was lost")
            _share(options.tasks)
    return 0


@contextlib.contextmanager
def _watched(parameters: dict[str, Any], folder: str) -> Iterator[None]:
    """Has the cluster stopped by another process if this one is killed."""
    settings = Path(folder, "demo.json")
    settings.write_text(json.dumps(parameters))
    words = isolated_python.command("nblb.cli.demo", [str(settings), folder])
    environment = isolated_python.environment()
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True, env=environment) as watcher:
        try:
            yield
        finally:
            watcher.kill()


def _remove_runtime_folder(parameters: Mapping[str, Any] | str) -> None:
    """Removes what a start leaves there for the next one: each demo has a folder of its own."""
    shutil.rmtree(load(parameters).runtime_dir, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """Runs the watcher of a demo: when the demo has died, stops its cluster and removes its folder."""
    from nblb import launch

    settings, folder = arguments
    sys.stdin.read()  # ends with the demo, however that dies
    launch.stop(settings)
    _remove_runtime_folder(settings)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _until(job: Job, percent: float) -> None:
    """Draws the bar until so much of the job is done."""
    while (done := job.snapshot().done_percent) < percent:
        _bar(done)
        time.sleep(PAUSE_S)
    _bar(done)


def _kill_worker(cluster: Cluster) -> None:
    busy = [worker for worker in cluster.workers() if worker.pid]
    if busy:
        pid = int(busy[0].pid or 0)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            print(f"\nkilled the worker with pid {pid}: what it ran runs again on another one, and only that")


def _kill_core(cluster: Cluster, parameters: dict[str, Any]) -> None:
    """Kills the core and starts it again; the workers go on meanwhile."""
    from nblb import launch

    _, core = find(launch.settle(parameters))
    if core is None:
        return
    os.kill(core.pid, signal.SIGKILL)
    print(f"\nkilled the core with pid {core.pid}: the workers go on; 'nblb start' brings back a core with its journal")
    launch.start(parameters, workers=0, monitor=False).close()
    until = time.monotonic() + AWAY_S
    while not cluster.connected:
        if time.monotonic() > until:
            raise NblbError(f"the new core of the demo does not answer within {AWAY_S:g} s")
        time.sleep(PAUSE_S)


def _share(tasks: int) -> None:
    """Two users at once: the second one, who comes later with less, does not wait for the first."""
    import nblb as lb

    few, began = max(1, round(tasks * SHARED)), time.monotonic()
    mine = lb.task(dart).map(range(tasks), job="many")
    theirs = lb.task(dart, user="bob").map(range(few), job="few")
    theirs.results()
    left = sum(number for state, number in mine.snapshot().counts.items() if state in ("QUEUED", "ASSIGNED", "RUNNING"))
    print(f"shared: bob came last, and has his {few} tasks after {time.monotonic() - began:.1f} s; "
          f"{left:,} of your {tasks:,} still wait or run")  # fmt: skip
    mine.cancel(wait=AWAY_S)


def _bar(percent: float) -> None:
    if percent < 100 and not sys.stdout.isatty():
        return
    full = int(percent / 2.5)
    sys.stdout.write(f"\r[{'#' * full}{'.' * (40 - full)}] {percent:3.0f} %")
    sys.stdout.flush()
