"""The line and cell magics: each is one call of the Python API, reports a mistake in one sentence, and has `--help`."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import shlex
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from nblb.client.scaling import adapt_limits
from nblb.errors import LoadBalancerUnreachable, NblbError, TaskError, TaskRejected, UnknownTask
from nblb.launch import joined_option
from nblb.notebook import display_hooks
from nblb.notebook.cards import static_html, view_model, wording
from nblb.notebook.magics import debug_magic, logs, task_lookup

FETCHED_S = 10.0  # within it the core's record of a task's end has arrived

# A line up to a comment; a # in quotes or inside a word starts no comment.
_said = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|(?<=\S)#|[^#])*""", re.DOTALL)


def without_comment(line: str) -> str:
    """Strips a comment: `parameters.json  # where the lab is` becomes `parameters.json`."""
    found = _said.match(line)
    return found[0].rstrip() if found else line


def spoken(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Parses the line, answers --help, and turns what nblb raises into a sentence without a traceback."""

    @wraps(magic)
    def run(self: Any, line: str, *cell: str) -> Any:
        try:
            line = without_comment(line)
            words = joined_option.joined(shlex.split(line), "--slurm")
            if {"--help", "-h"} & set(words):
                print(help_of(run))
                return None
            return magic(self, run.parser.parse_args(words), *cell)  # type: ignore[attr-defined]
        except (NblbError, ValueError) as problem:
            if isinstance(problem, TaskError) and not isinstance(problem, (TaskRejected, UnknownTask)):
                raise  # the failure of a task is no mistake in the line
            raise UsageError(str(problem)) from None

    return run


def help_of(magic: Callable[..., Any]) -> str:
    """The help of a magic as people read it: its docstring begins with `::`, for pages made of docstrings."""
    return inspect.cleandoc((magic.__doc__ or "").lstrip().removeprefix("::").lstrip("\n"))


def current(parameters: str | None = None) -> Any:
    """The cluster of these parameters; without parameters the one in use, or a new connection to the default one."""
    from nblb import launch
    from nblb.client import open_clusters

    known = open_clusters.known()
    if parameters is None and known is not None and not known.stopped:
        return known
    return launch.connect(parameters)


@magics_class
class LbMagics(Magics):
    """The magics that %load_ext nblb registers."""

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="a parameters.json, or the name of a cluster that was joined")
    @argument(
        "--workers",
        type=int,
        default=None,
        metavar="N",
        help="workers of the local hub",
    )
    @argument("--name", default=None, help="name of the cluster; clusters with different names are separate")
    @argument("--no-monitor", action="store_true", help="start without the Monitor's page")
    @spoken
    def lb_start(self, args: Any) -> Any:
        """Start a core and a local hub, or find the running ones, and show their card."""
        from nblb import launch
        from nblb.launch.cluster_processes import StartWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StartWarning)  # the card says so
            cluster = launch.start(args.parameters, workers=args.workers, monitor=not args.no_monitor, name=args.name)
        display_hooks.show_now("cluster", cluster)  # also where the magic is not the last line of its cell
        return cluster

    @line_magic
    @magic_arguments()
    @argument("line", nargs="+", help="the line that 'nblb invite' prints")
    @argument("--name", default="", help="the cluster's name here, if not its own")
    @spoken
    def lb_join(self, args: Any) -> None:
        """Join a cluster on another computer with an invitation: %lb_start NAME uses it from then on."""
        from nblb.transport.curve.enrol import join

        joined = join(args.line[-1], args.name)
        name = joined.path.name.removesuffix(".json").removesuffix(".hub")
        use = f"'nblb hub --cluster {name}' starts a hub" if joined.role == "hub" else f"%lb_start {name} uses it"
        print(f"Joined {joined.cluster} at {joined.host} as {joined.role} {joined.name!r}; {use}.")

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="a parameters.json; without it the cluster in use")
    @spoken
    def lb_stop(self, args: Any) -> None:
        """Stop the cluster: core, hubs and Monitor. What the journal holds waits for the next start."""
        from nblb.launch.cluster_processes import StopWarning

        cluster = current(args.parameters)
        before: Any = cluster.snapshot()
        with contextlib.suppress(LoadBalancerUnreachable):  # a dead core is stopped as well
            before = cluster.status()
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always", StopWarning)
            cluster.stop()
        for warning in left:
            print(warning.message)
        if not getattr(before, "known", True):
            print(f"{before.name} has stopped; its core did not answer any more.")
            return
        unfinished, hubs = before.queued + before.running, before.hubs
        verb = "is" if unfinished == 1 else "are"
        kept = f" {wording.number(unfinished, 'unfinished task')} {verb} kept for the next start." if unfinished else ""
        there = wording.number(hubs if isinstance(hubs, int) else len(hubs), "hub")
        print(f"{before.name} has stopped: {there}, {wording.number(before.workers, 'worker')}.{kept}")

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="a parameters.json; without it the cluster in use")
    @spoken
    def lb_status(self, args: Any) -> None:
        """Show the state of the cluster: hubs, workers, queue and users."""
        cluster = current(args.parameters)
        users: list[Any] = []
        with contextlib.suppress(LoadBalancerUnreachable):  # the printed state then says that it is away
            cluster.status()  # asks the core, so that the state below is current
            users = cluster.users()
        print(static_html.text(view_model.cluster(cluster.snapshot())))
        for user in users:
            print(f"user {user['user']}: {user['running']:,} running, {user['queued']:,} queued, {user['done']:,} done")

    @line_magic
    @magic_arguments()
    @argument("workers", nargs="?", type=int, help="number of workers of all hubs together, or of HUB")
    @argument("hub", nargs="?", default="", help="name of a hub")
    @argument("--adapt", nargs="+", metavar="N", help="MIN MAX: follow the load between these numbers; off: no longer")
    @spoken
    def lb_scale(self, args: Any) -> None:
        """Give the cluster, or one of its hubs, more or fewer workers, or let their number follow the load."""
        cluster = current()
        if args.adapt is not None:
            if args.workers is not None:
                raise UsageError("give a number of workers, or --adapt MIN MAX, and not both")
            cluster.adapt(*adapt_limits(args.adapt))
            adapts = cluster.status().adapts
            print(adapts["text"] if adapts else "the number of workers no longer follows the load")
            return
        if args.workers is None:
            raise UsageError("give the number of workers, or --adapt MIN MAX, or --adapt off")
        if args.workers < 0:
            raise UsageError(f"the number of workers is {args.workers}; it cannot be negative")
        cluster.scale(args.workers, args.hub)
        whole = f" {args.hub}" if args.hub else ""
        print(f"scaling{whole} to {wording.number(args.workers, 'worker')}{view_model.beyond(args.workers)}")

    @line_magic
    @magic_arguments()
    @spoken
    def lb_jobs(self, _args: Any) -> Any:
        """List the jobs that the core knows."""
        return current().jobs()

    @line_magic
    @magic_arguments()
    @spoken
    def lb_sidebar(self, _args: Any) -> None:
        """Show the cluster and its jobs, live, in JupyterLab's right sidebar (needs the package sidecar)."""
        from nblb.notebook import sidebar

        cluster = current()
        sidebar.show(cluster, cluster.jobs())

    @line_magic
    @magic_arguments()
    @argument("--everywhere", action="store_true", help="from all your notebooks and programs, not only this notebook")
    @argument("--recover", action="store_true", help="make variables of all entries")
    @spoken
    def lb_inbox(self, args: Any) -> Any:
        """List what ended while no kernel of this notebook was running, to make variables of it."""
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
        """Attach to a job that this kernel or an earlier one has submitted."""
        return current().attach(" ".join(args.name))

    @line_magic
    @magic_arguments()
    @argument("parameters", nargs="?", default=None, help="the parameters.json in its form; default: ./parameters.json")
    @spoken
    def lb_dashboard(self, args: Any) -> Any:
        """Open the control panel in this cell: edit parameters.json, start and stop the cluster, and watch it."""
        from nblb.launch.dashboard import dashboard

        return dashboard(args.parameters)

    @line_magic
    @magic_arguments()
    @spoken
    def lb_monitor(self, _args: Any) -> Any:
        """Show the cluster's card, whose button opens the Monitor, and its address."""
        cluster = current()
        address = cluster.snapshot().monitor_url if cluster.monitor_url else ""
        none = "no Monitor runs for this cluster; %lb_start without --no-monitor starts one"
        print(address or cluster.monitor_trouble or none)
        return cluster if address else None

    @line_magic
    @magic_arguments()
    @argument("--workers", type=int, default=None, metavar="N", help="number of its workers; default: WKHUB_WORKERS")
    @argument(
        "--host", default=None, metavar="USER@MACHINE", help="another computer, which ssh reaches without a password"
    )
    @argument("--python", default=None, metavar="COMMAND", help="with --host: the command that runs Python there")
    @argument("--make-venv", action="store_true", help="with --host: install nblb there, in an environment of its own")
    @argument("--only", default=None, metavar="NAME,NAME", help="run only tasks of these users; default: of all")
    @argument("--slurm", default=None, metavar="OPTIONS", help="run it as a job of Slurm, with these options of sbatch")
    @argument("--hubs", type=int, default=None, metavar="N", help="with --slurm: how many of them (1)")
    @argument("--backlog", type=int, default=None, metavar="N", help="with --slurm: how many may wait at a time (4)")
    @argument(
        "--engine", default=None, metavar="NAME", help="run its tasks on dask, or on module:callable, an Executor"
    )
    @argument("--engine-options", default=None, metavar="JSON", help="an object of options for the engine")
    @spoken
    def lb_hub(self, args: Any) -> None:
        """Start one more hub: on this computer, over ssh on another one, or as a job of Slurm."""
        if args.host is None and (args.python or args.make_venv):
            raise UsageError("--python and --make-venv are for a hub on another computer: add --host USER@MACHINE")
        if args.slurm is None and (args.hubs is not None or args.backlog is not None):
            raise UsageError("--hubs and --backlog are for hubs in Slurm: add --slurm OPTIONS")
        if args.slurm is not None and args.host is not None:
            raise UsageError("--host and --slurm exclude each other: Slurm chooses the computers itself")
        if args.slurm is not None:
            options = {"slurm": args.slurm, "hubs": args.hubs, "backlog": args.backlog, "only": args.only}
            kept = current().add_hub(workers=args.workers, host=args.host, engine=args.engine, **options)
            print(f"submitted to Slurm; %lb_status shows the hubs that run, the card those that wait; log {kept.log}")
            return
        elsewhere = {"python": args.python, "make_venv": args.make_venv} if args.host is not None else {}
        if args.engine_options is not None:
            elsewhere["engine_options"] = json.loads(args.engine_options)
        if args.only is not None:
            elsewhere["only"] = args.only
        hub = current().add_hub(workers=args.workers, host=args.host, engine=args.engine, **elsewhere)
        which = f"with pid {hub.pid}" if args.host is None else f"on {args.host}"
        print(f"a hub {which} has joined; %lb_status shows all, its log is {hub.log}")

    @line_magic
    @magic_arguments()
    @argument("what", nargs="?", default="", metavar="TASK|hub|core", help="a process or a task; without it all logs")
    @argument("-n", dest="lines", type=int, default=20, metavar="N", help="lines from the end (20)")
    @argument("--all", action="store_true", help="all output of a task, up to what a page can show")
    @argument("-f", "--follow", action="store_true", help="follow new output until the stop button is pressed")
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
    @argument("task", help="a variable with its future, JOB[ITEM], or its id or the end of it")
    @argument("--saved", action="store_true", help="run nothing: show the frames that were saved when it failed")
    @argument("--post-mortem", action="store_true", help="run nothing: open the debugger on the saved frames")
    @spoken
    def lb_debug(self, args: Any) -> Any:
        """Repeat the call of a failed task here, and open the debugger on what it raises."""
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
    @argument("--name", default="cell", help="name in cards and statistics")
    @argument("--priority", type=float, default=0.0, metavar="P", help="a higher one goes first among your own tasks")
    @argument("--timeout", type=float, default=None, metavar="S", help="seconds that it may run at most")
    @argument("--bg", action="store_true", help="do not wait: the value of the cell is a future, shown as a card")
    @spoken
    def lb(self, args: Any, cell: str) -> Any:
        """Run the cell as a task: the variables that it reads are sent, those that it assigns come back."""
        from nblb.notebook.magics import cell_magic as cells

        current()
        options = {"name": args.name, "priority": args.priority, "timeout": args.timeout}
        future = cells.submit(self.shell, cell, **options)
        return cells.in_background(future) if args.bg else cells.watch(future)


def with_body(lines: list[str]) -> list[str]:
    """Gives a cell of nothing but `%%lb --help` a body, without which IPython refuses to call the magic."""
    words = "".join(lines).split()
    if words[:1] == ["%%lb"] and {"--help", "-h"} & set(words) and not "".join(lines[1:]).strip():
        return [*(line if line.endswith("\n") else f"{line}\n" for line in lines), "pass\n"]
    return lines


def install(ipython: Any) -> None:
    ipython.register_magics(LbMagics)
    if with_body not in ipython.input_transformers_cleanup:
        ipython.input_transformers_cleanup.append(with_body)


def remove(ipython: Any) -> None:
    """Takes the magics out of this IPython."""
    for name in names():
        ipython.magics_manager.magics["line"].pop(name, None)
    ipython.magics_manager.magics["cell"].pop("lb", None)
    if with_body in ipython.input_transformers_cleanup:
        ipython.input_transformers_cleanup.remove(with_body)


def names() -> list[str]:
    """Every line magic of nblb."""
    return sorted(name for name in vars(LbMagics) if name.startswith("lb_"))
