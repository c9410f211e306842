"""Commands about what has run: `nblb logs`, `result`, `inbox` and `forget`, and `nblb scale`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from nblb import launch
from nblb.cli.command import Commands, add, count, duration, seconds, settings, show, table
from nblb.client.scaling import IDLE_S, adapt_limits
from nblb.client.snapshots import ENDED
from nblb.errors import NblbError, TaskError, UnknownTask
from nblb.quantities import duration as length
from nblb.system.console import printable
from nblb.user_text import clean, text_of

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.futures.task_future import TaskFuture

LONGEST = 10_000  # characters of the repr of one result
NO_VARIABLES: Any = SimpleNamespace(user_ns={})  # instead of the notebook in which the magics look for a future


def register(commands: Commands) -> None:
    command = add(commands, "logs", logs, "print the log of a process, or the output of a task")
    command.add_argument(
        "what", nargs="?", default="", metavar="TASK|hub|core", help="JOB[ITEM], a task's id, or a process (all logs)"
    )
    command.add_argument("-n", "--lines", type=count, default=20, metavar="N", help="lines from the end (20)")
    command.add_argument("--all", action="store_true", help="all of a task's output")
    command.add_argument("-f", "--follow", action="store_true", help="print new text until the task ends, or Ctrl-C")
    command = add(commands, "result", result, "wait for a job or a task, and print its results", data=True)
    command.add_argument("what", metavar="JOB|JOB[ITEM]|TASK", help="a job's name or id, an item of it, or a task's id")
    command.add_argument("--timeout", type=duration, metavar="TIME", help="wait no longer: 30s, 5m (without a limit)")
    command = add(commands, "inbox", inbox, "list what ended while its notebook was away", data=True)
    command = add(commands, "forget", forget, "drop ended jobs or tasks with their results", data=True)
    command.add_argument("names", nargs="*", metavar="JOB|TASK", help="names or ids of jobs, or ids of single tasks")
    command.add_argument("--ended", action="store_true", help="all of your jobs that have ended")
    command.add_argument("--running", action="store_true", help="also jobs that go on, which cancels them")
    command = add(commands, "scale", scale, "give the cluster, or one of its hubs, more or fewer workers", data=True)
    command.add_argument(
        "workers", nargs="?", type=count, metavar="N", help="number of workers of all hubs together, or of HUB"
    )
    command.add_argument("hub", nargs="?", default="", help="name of a hub")
    command.add_argument("--adapt", nargs="+", metavar="MIN MAX|off", help="follow the load between MIN and MAX; off")
    command.add_argument(
        "--idle", type=seconds, default=IDLE_S, metavar="S", help="with --adapt: how long fewer must be enough (30)"
    )


@contextlib.contextmanager
def connected(options: argparse.Namespace) -> Iterator[Cluster]:
    """The cluster of the command's parameters, for the time of the command."""
    logger = logging.getLogger("nblb")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its warnings are for programs
    try:
        cluster = launch.connect(settings(options))
        try:
            yield cluster
        finally:
            cluster.close()
    finally:
        logger.setLevel(level)


def logs(options: argparse.Namespace) -> int:
    """Print the end of a process's log or of a task's output; without a name, the end of every log.

    A task is an item of a job such as 'sweep[3]', or the id of a single task or the end of it ('nblb jobs --tasks').
    """
    from nblb.notebook.magics import logs as texts

    with connected(options) as cluster:
        asked = None if options.all else options.lines
        parts = [texts.read(NO_VARIABLES, cluster, options.what, asked)]
        if options.follow:
            parts.append(texts.follow(NO_VARIABLES, cluster, options.what))
        for text in (text for part in parts for text in part):
            sys.stdout.write(clean(text, len(text)))
            sys.stdout.flush()
    return 0


def result(options: argparse.Namespace) -> int:
    """Wait for a job or a task and print its results; exit code 1 if one of them has none.

    A result is loaded in this process, so the modules of its classes must be importable here.
    """
    with connected(options) as cluster:
        thing, name = _found(cluster, options.what)
        futures: list[TaskFuture] = [thing[item] for item in range(len(thing))] if _is_job(thing) else [thing]
        if not (thing.wait(timeout=options.timeout)):
            raise NblbError(f"{name} has not ended after {length(options.timeout)}; 'nblb result' can be asked again")
        values, failed = [], 0
        for number, future in enumerate(futures):
            label = f"[{number}] " if _is_job(thing) else ""
            try:
                values.append(future.result())
            except (TaskError, NblbError) as error:
                failed += 1
                values.append({"error": printable(str(error))})
                print(f"{label}{_in_short(future, error)}", file=sys.stderr)
            else:
                _print_value(options, label, values[-1])
    if options.json:
        show(options, values if _is_job(thing) else values[0], str)
    return 1 if failed else 0


def _print_value(options: argparse.Namespace, label: str, value: Any) -> None:
    if not options.json:
        print(f"{label}{text_of(value, LONGEST, repr)}")


def _in_short(future: TaskFuture, error: BaseException) -> str:
    """The kind, text and place of a failure in one line; %lb_logs and the card have the rest."""
    failure = future.snapshot().failure
    told = f"{failure.kind}: {failure.message}" if failure is not None else str(error)
    where = f" at {failure.where}" if failure is not None and failure.where else ""
    return printable(told.strip().partition("\n")[0] + where)


def _is_job(thing: Any) -> bool:
    return hasattr(thing, "retry_failed")


def _found(cluster: Cluster, what: str) -> tuple[Any, str]:
    """The job, item or single task of this name or id; ended single tasks are found by id, too."""
    from nblb.notebook.magics import task_lookup

    if not what.endswith("]"):
        try:
            return cluster.attach(what), what
        except UnknownTask as problem:
            sentence = str(problem)
    else:
        sentence = ""
    try:
        return task_lookup.taken_up(NO_VARIABLES, cluster, what), what
    except UnknownTask as problem:
        raise UnknownTask(sentence or str(problem)) from None


def inbox(options: argparse.Namespace) -> int:
    """List your jobs and single tasks that ended while no kernel of their notebook was connected, the latest first.

    'nblb result ID' prints the results of one; in a notebook lb.inbox() makes variables of them.
    """
    from nblb.client.jobs import inbox as finished

    with connected(options):
        entries = finished.inbox(everywhere=True)
        rows = [_inbox_row(entry) for entry in entries]
    columns = ("kind", "call", "name", "state", "items", "failed", "ended", "notebook", "id")
    show(options, rows, lambda: table(rows, columns, "nothing ended while its notebook was away"))
    return 0


def _inbox_row(entry: Any) -> dict[str, Any]:
    keys = ("kind", "call", "name", "state", "items", "failed", "notebook", "cell", "id", "ended_at")
    row = {key: getattr(entry, key) for key in keys}
    return {**row, "ended": f"{length(entry.ago_s)} ago"}


def forget(options: argparse.Namespace) -> int:
    """Drop jobs or single tasks with their results, by name or id; exit code 1 if one is unknown or goes on."""
    if bool(options.names) == options.ended:
        raise NblbError("give names or ids of jobs or tasks to forget, or --ended for all of your jobs that have ended")
    with connected(options) as cluster:
        rows = [row for row in cluster.jobs(cluster.user) if row["state"] != "running"] if options.ended else []
        dropped = {str(row["job"]): _forget_job(cluster, str(row["job"])) for row in rows}
        for name in options.names:
            dropped[name] = _forget(cluster, name, options.running)
    lines = [f"{name}: {'forgotten' if told == '' else told}" for name, told in dropped.items() if not options.ended]
    total = f"{len(dropped):,} {'job' if len(dropped) == 1 else 'jobs'} forgotten, with all results"
    show(options, {name: not told for name, told in dropped.items()}, lambda: "\n".join(lines) or total)
    return 1 if any(dropped.values()) else 0


def _forget(cluster: Cluster, name: str, running: bool) -> str:
    """Drops a job, or else a single task; returns why it did not, or ""."""
    from nblb.notebook.magics import task_lookup
    from nblb.protocol.messages import CollectTask

    about = cluster.connection.ask("job", {"name": name, "user": cluster.user}) or cluster.connection.ask(
        "job", {"job": name}
    )
    if about is not None:
        if about["state"] == "running" and not running:
            return "goes on; --running cancels and drops it, too"
        return _forget_job(cluster, str(about["job"]))
    try:
        place = task_lookup.place(NO_VARIABLES, cluster, name)
    except UnknownTask:
        return "unknown; 'nblb jobs' lists jobs"
    told = cluster.connection.ask("task", place)
    if told["job"]:
        return f"is a part of the job {told['job']}, which is forgotten as a whole"
    if told["of"] > 1:
        return "was sent together with other tasks, whose results stay; it expires by itself"
    if told["state"] not in ENDED:
        return "has not ended; 'nblb cancel' ends it"
    cluster.connection.send(CollectTask(task=place["task"]))
    cluster.connection.ask("status")  # behind the message: the core has handled it
    return ""


def _forget_job(cluster: Cluster, job: str) -> str:
    from nblb.protocol.messages import ForgetJob

    connection = cluster.connection
    connection.carried_out(ForgetJob(request=connection.request(), job=job))
    return ""


def _adapt(options: argparse.Namespace) -> int:
    """Let the number of workers follow the load, or end that."""
    limits = adapt_limits(options.adapt)
    with connected(options) as cluster:
        cluster.adapt(*limits, idle_s=options.idle)
        adapts = cluster.status().adapts
    text = adapts["text"] if adapts else "the number of workers no longer follows the load"
    show(options, {"adapts": adapts}, lambda: text)
    return 0


def scale(options: argparse.Namespace) -> int:
    """Set the number of workers of all hubs together, or of one hub; a cluster without a hub gets one here.

    Of several hubs the latest shrink first, and the first one on this computer grows.
    """
    if (options.workers is None) == (options.adapt is None):
        raise NblbError("give the number of workers, or --adapt MIN MAX, or --adapt off")
    if options.adapt is not None:
        return _adapt(options)
    with connected(options) as cluster:
        cluster.scale(options.workers, options.hub)
    which = f"hub {options.hub}" if options.hub else "the cluster"
    words = "1 worker" if options.workers == 1 else f"{options.workers:,} workers"
    show(options, {"workers": options.workers, "hub": options.hub}, lambda: f"scaling {which} to {words}")
    return 0
