"""The magics: each is one call of the Python API, a mistake is one red sentence, and `--help` says how."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import wraps
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from nblb.errors import NblbError
from nblb.notebook import describe, pictures, words


def spoken(magic: Callable[[Any, Any], Any]) -> Callable[[Any, str], Any]:
    """Parses the line, answers --help, and turns what nblb raises into a sentence without a traceback."""

    @wraps(magic)
    def run(self: Any, line: str) -> Any:
        try:
            if {"--help", "-h"} & set(shlex.split(line)):
                print(run.__doc__)
                return None
            return magic(self, parse_argstring(run, line))
        except (NblbError, ValueError) as problem:
            raise UsageError(str(problem)) from None

    return run


def current(parameters: str | None = None) -> Any:
    """The cluster of these parameters; without them the one that this notebook uses, connected to if it was not."""
    from nblb import launch
    from nblb.client import current as clusters

    known = clusters.known()
    if parameters is None and known is not None and not known.stopped:
        return known
    return launch.connect(parameters)


@magics_class
class LbMagics(Magics):
    """What %load_ext nblb adds."""

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="a parameters.json; without it the defaults")
    @argument(
        "--workers",
        type=int,
        default=None,
        metavar="N",
        help="workers of the local hub",
    )
    @argument("--name", default=None, help="name of the cluster; clusters of other names are apart")
    @argument("--no-monitor", action="store_true", help="start without the Monitor's page")
    @spoken
    def lb_start(self, args: Any) -> Any:
        """Start a core and a local hub, or find them running, and show their card."""
        from nblb import launch

        return launch.start(args.parameters, workers=args.workers, monitor=not args.no_monitor, name=args.name)

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="a parameters.json; without it the cluster in use")
    @spoken
    def lb_stop(self, args: Any) -> None:
        """Stop the cluster: core, hubs and Monitor. What the journal holds waits for the next start."""
        cluster = current(args.parameters)
        before = cluster.snapshot()
        cluster.stop()
        left = before.queued + before.running
        kept = f" {left:,} unfinished tasks are kept for the next start." if left else ""
        hubs, workers = words.number(len(before.hubs), "hub"), words.number(before.workers, "worker")
        print(f"{before.name} has stopped: {hubs}, {workers}.{kept}")

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="a parameters.json; without it the cluster in use")
    @spoken
    def lb_status(self, args: Any) -> None:
        """Say how the cluster is: hubs, workers, queue, and who uses it."""
        cluster = current(args.parameters)
        print(pictures.text(describe.cluster(cluster.snapshot())))
        for user in cluster.users():
            print(f"user {user['user']}: {user['running']:,} running, {user['queued']:,} queued, {user['done']:,} done")

    @line_magic
    @magic_arguments()
    @argument("workers", type=int, help="how many workers the local hub shall have")
    @spoken
    def lb_scale(self, args: Any) -> None:
        """Give the hub more or fewer workers."""
        if args.workers < 0:
            raise UsageError(f"the number of workers is {args.workers}; it cannot be negative")
        current().scale(args.workers)
        print(f"scaling to {words.number(args.workers, 'worker')}")

    @line_magic
    @magic_arguments()
    @spoken
    def lb_jobs(self, _args: Any) -> None:
        """List the jobs that the core knows."""
        rows = current().jobs()
        if not rows:
            print("no jobs")
        for row in rows:
            total = row["items"]
            print(f"{row['name']}: {row['state']}, {words.progress_text(row['counts'], total)} ({row['user']})")

    @line_magic
    @magic_arguments()
    @argument("name", help="name of the job; %%lb_jobs lists them")
    @spoken
    def lb_attach(self, args: Any) -> Any:
        """Take up a job that was submitted earlier, by this kernel or one before it."""
        return current().attach(args.name)

    @line_magic
    @magic_arguments()
    @spoken
    def lb_monitor(self, _args: Any) -> Any:
        """Show the cluster's card, whose button opens the Monitor, and its address."""
        cluster = current()
        address = cluster.monitor_url
        print(address or "no Monitor runs for this cluster; %lb_start without --no-monitor starts one")
        return cluster if address else None


def install(ipython: Any) -> None:
    ipython.register_magics(LbMagics)


def remove(ipython: Any) -> None:
    """Takes the magics out of this IPython."""
    for name in names():
        ipython.magics_manager.magics["line"].pop(name, None)


def names() -> list[str]:
    """Every line magic of nblb."""
    return sorted(name for name in vars(LbMagics) if name.startswith("lb_"))
