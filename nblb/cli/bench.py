"""`nblb bench`: measures this cluster and explains what limits it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nblb.cli.command import Commands, add, count, seconds, settings, show
from nblb.errors import LoadBalancerUnreachable, NblbError

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


def register(commands: Commands) -> None:
    command = add(commands, "bench", bench, "measure the cluster, and report what limits it", data=True)
    command.add_argument("--workers", type=count, metavar="N", help="workers of the hub, if a cluster must be started")
    command.add_argument("--seconds", type=seconds, default=30.0, metavar="S", help="approximate duration (30)")
    command.add_argument("--priority", type=float, default=0.0, metavar="P", help="priority of its tasks (0)")
    command.add_argument("--cases", metavar="A,B", help="only these cases, such as latency,submit")


def bench(options: argparse.Namespace) -> int:
    """Measure the running cluster, or one started for the measurement, and report what uses the time.

    Its tasks are yours, are called nblb-bench, and are gone when it ends; other users' tasks go on meanwhile.
    """
    from nblb.bench.runner import NAMES, run

    if not options.seconds > 0:
        raise NblbError(f"--seconds is {options.seconds:g}; it must be above 0")
    cases = options.cases.split(",") if options.cases else NAMES
    with _cluster(options) as cluster:
        report = run(cluster, options.seconds, options.priority, cases, tell=_tell)
    _tell("")
    show(options, report.as_dict(), report.text)
    return 0


@contextlib.contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[Cluster]:
    from nblb import launch

    try:
        cluster = launch.connect(settings(options))
    except LoadBalancerUnreachable:
        with launch.start(settings(options), options.workers, monitor=False) as cluster:
            yield cluster
        return
    try:
        yield cluster
    finally:
        cluster.close()


def _tell(name: str) -> None:
    """Shows the present measurement on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{f'measuring {name} …' if name else ''}")
        sys.stderr.flush()
