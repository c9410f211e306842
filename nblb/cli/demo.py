"""`nblb demo`: shows a cluster at work for half a minute, without a notebook."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time

from nblb.cli.command import Commands, add, count


def register(commands: Commands) -> None:
    command = add(commands, "demo", demo, "estimate pi on a cluster of this machine's cores", parameters=False)
    command.add_argument("--tasks", type=count, default=200, help="number of tasks (200)")
    command.add_argument("--workers", type=count, default=None, help="number of workers (one per core)")


def dart(seed: int, throws: int = 200_000) -> int:
    """Returns how many of `throws` darts hit the quarter circle."""
    chance = random.Random(seed)
    return sum(chance.random() ** 2 + chance.random() ** 2 < 1 for _ in range(throws))


def demo(options: argparse.Namespace) -> int:
    """Start a separate cluster, estimate pi with many tasks behind a progress bar, and stop it again."""
    import nblb as lb

    with tempfile.TemporaryDirectory(prefix="nblb-demo-") as folder:
        parameters = {"LB_NAME": "demo", "LB_STATE_DIR": folder, "LB_DURABILITY": "none", "WKHUB_WORKERS": []}
        with lb.start(parameters, workers=options.workers, monitor=False) as cluster:
            print(f"a cluster of {len(cluster.workers())} workers: each task throws 200,000 darts")
            job = lb.task(dart).map(range(options.tasks), job="darts")
            while (done := job.snapshot().done_percent) < 100:
                _bar(done)
                time.sleep(0.1)
            _bar(100)
            print(f"\npi is about {4 * sum(job.results()) / (200_000 * max(1, options.tasks)):.5f}")
    return 0


def _bar(percent: float) -> None:
    if percent < 100 and not sys.stdout.isatty():
        return
    full = int(percent / 2.5)
    sys.stdout.write(f"\r[{'#' * full}{'.' * (40 - full)}] {percent:3.0f} %")
    sys.stdout.flush()
