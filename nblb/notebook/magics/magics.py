"""The magics: each is one call of the Python API, a mistake is one red sentence, and `--help` says how."""

from __future__ import annotations

import contextlib
import re
import shlex
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from nblb.errors import LoadBalancerUnreachable, NblbError, TaskError, TaskRejected, UnknownTask
from nblb.notebook import display_hooks
from nblb.notebook.cards import static_html, view_model, wording
from nblb.notebook.magics import debug_magic, logs, task_lookup

FETCHED_S = 10.0  # by then what the core knows of a task's end is here

# A line up to a comment; a # in quotes or inside a word is none.
_said = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|(?<=\S)#|[^#])*""", re.DOTALL)


def without_comment(line: str) -> str:
    """`parameters.json` of `parameters.json  # where the lab is`."""
    found = _said.match(line)
    return found[0].rstrip() if found else line


def spoken(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Parses the line, answers --help, and turns what nblb raises into a sentence without a traceback."""

    @wraps(magic)
    def run(self: Any, line: str, *cell: str) -> Any:
        try:
            line = without_comment(line)
            words = shlex.split(line)
            if {"--help", "-h"} & set(words):
                print(run.__doc__)
                return None
            return magic(self, run.parser.parse_args(words), *cell)  # type: ignore[attr-defined]
        except (NblbError, ValueError) as problem:
            if isinstance(problem, TaskError) and not isinstance(problem, (TaskRejected, UnknownTask)):
                raise  # what became of a task is no mistake of the line
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
        from nblb.launch.cluster_processes import StartWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StartWarning)  # the card says so
            cluster = launch.start(args.parameters, workers=args.workers, monitor=not args.no_monitor, name=args.name)
        display_hooks.show_now("cluster", cluster)  # also where the magic is not the last line of its cell
        return cluster

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="a parameters.json; without it the cluster in use")
    @spoken
    def lb_stop(self, args: Any) -> None:
        """Stop the cluster: core, hubs and Monitor. What the journal holds waits for the next start."""
        cluster = current(args.parameters)
        before: Any = cluster.snapshot()
        with contextlib.suppress(LoadBalancerUnreachable):  # a dead core is stopped as well
            before = cluster.status()
        cluster.stop()
        if not getattr(before, "known", True):
            print(f"{before.name} has stopped; its core did not answer any more.")
            return
        left, hubs = before.queued + before.running, before.hubs
        kept = f" {wording.number(left, 'unfinished task')} {'is' if left == 1 else 'are'} kept for the next start."
        there = wording.number(hubs if isinstance(hubs, int) else len(hubs), "hub")
        print(f"{before.name} has stopped: {there}, {wording.number(before.workers, 'worker')}.{kept if left else ''}")

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="a parameters.json; without it the cluster in use")
    @spoken
    def lb_status(self, args: Any) -> None:
        """Say how the cluster is: hubs, workers, queue, and who uses it."""
        cluster = current(args.parameters)
        users: list[Any] = []
        with contextlib.suppress(LoadBalancerUnreachable):  # then the picture says that it is away
            cluster.status()  # asks the core: what follows is not what it said some time ago
            users = cluster.users()
        print(static_html.text(view_model.cluster(cluster.snapshot())))
        for user in users:
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
        print(f"scaling to {wording.number(args.workers, 'worker')}")

    @line_magic
    @magic_arguments()
    @spoken
    def lb_jobs(self, _args: Any) -> Any:
        """List the jobs that the core knows."""
        return current().jobs()

    @line_magic
    @magic_arguments()
    @argument("--everywhere", action="store_true", help="of all your notebooks and programs, not of this notebook only")
    @argument("--recover", action="store_true", help="make variables of all that it has")
    @spoken
    def lb_inbox(self, args: Any) -> Any:
        """List what ended while no kernel of this notebook was there, ready to be variables again."""
        from nblb.client.jobs.inbox import inbox

        current()
        found = inbox(args.everywhere)
        if args.recover:
            print(f"variables now: {', '.join(found.recover(self.shell.user_ns)) or 'none'}")
        return found

    @line_magic
    @magic_arguments()
    @argument("name", nargs="+", help="name of the job; %%lb_jobs lists them")
    @spoken
    def lb_attach(self, args: Any) -> Any:
        """Take up a job that was submitted earlier, by this kernel or one before it."""
        return current().attach(" ".join(args.name))

    @line_magic
    @magic_arguments()
    @spoken
    def lb_monitor(self, _args: Any) -> Any:
        """Show the cluster's card, whose button opens the Monitor, and its address."""
        cluster = current()
        address = cluster.monitor_url
        none = "no Monitor runs for this cluster; %lb_start without --no-monitor starts one"
        print(address or cluster.monitor_trouble or none)
        return cluster if address else None

    @line_magic
    @magic_arguments()
    @argument("--workers", type=int, default=None, metavar="N", help="its workers; without it WKHUB_WORKERS decides")
    @argument("--host", default=None, metavar="USER@MACHINE", help="another computer (to come)")
    @argument("--engine", default=None, help="what its workers run on: processes (others are to come)")
    @spoken
    def lb_hub(self, args: Any) -> None:
        """Start one more hub on this machine."""
        hub = current().add_hub(workers=args.workers, host=args.host, engine=args.engine)
        print(f"a hub with pid {hub.pid} has joined; %lb_status shows all, its log is {hub.log}")

    @line_magic
    @magic_arguments()
    @argument("what", nargs="?", default="", metavar="TASK|hub|core", help="a process or a task; without it all logs")
    @argument("-n", dest="lines", type=int, default=20, metavar="N", help="lines from the end (20)")
    @argument("--all", action="store_true", help="all that a task has printed, up to what a page can show")
    @argument("-f", "--follow", action="store_true", help="go on with what is written, until the stop button")
    @spoken
    def lb_logs(self, args: Any) -> None:
        """Show what core, hubs, Health Check and Monitor have logged, or what a task has printed."""
        cluster = current()
        texts = [logs.read(self.shell, cluster, args.what, None if args.all else args.lines)]
        if args.follow:
            texts.append(logs.follow(self.shell, cluster, args.what))
        with contextlib.suppress(KeyboardInterrupt):
            for text in (text for part in texts for text in part):
                print(text, end="", flush=True)

    @line_magic
    @magic_arguments()
    @argument("task", help="a variable that holds its future, JOB[ITEM], or its id or the end of it")
    @argument("--saved", action="store_true", help="run nothing: show the frames that were written down when it failed")
    @argument("--post-mortem", action="store_true", help="run nothing: open the debugger on the frames as they were")
    @spoken
    def lb_debug(self, args: Any) -> Any:
        """Run a failed task's very call here, and look at what it raises with the debugger."""
        if args.saved or args.post_mortem:
            from nblb.client.debug.post_mortem import debug

            failed = task_lookup.taken_up(self.shell, current(), args.task)
            failed.exception(FETCHED_S)
            saved = debug(failed)
            return saved.interact() if args.post_mortem else saved
        place = task_lookup.place(self.shell, current(), args.task)
        return debug_magic.run(self.shell, current().connection, place["task"], place["first"])

    @cell_magic
    @magic_arguments()
    @argument("--name", default="cell", help="what cards and statistics call it")
    @argument("--priority", type=float, default=0.0, metavar="P", help="a higher one goes first among your own tasks")
    @argument("--timeout", type=float, default=None, metavar="S", help="seconds that it may run")
    @argument("--bg", action="store_true", help="do not wait: the value of the cell is a future, whose card is shown")
    @spoken
    def lb(self, args: Any, cell: str) -> Any:
        """Run the cell as a task: the variables that it reads go with it, those that it gives come back."""
        from nblb.notebook.magics import cell_magic as cells

        current()
        options = {"name": args.name, "priority": args.priority, "timeout": args.timeout}
        future = cells.submit(self.shell, cell, **options)
        return cells.in_background(future) if args.bg else cells.watch(future)


def install(ipython: Any) -> None:
    ipython.register_magics(LbMagics)


def remove(ipython: Any) -> None:
    """Takes the magics out of this IPython."""
    for name in names():
        ipython.magics_manager.magics["line"].pop(name, None)
    ipython.magics_manager.magics["cell"].pop("lb", None)


def names() -> list[str]:
    """Every line magic of nblb."""
    return sorted(name for name in vars(LbMagics) if name.startswith("lb_"))
