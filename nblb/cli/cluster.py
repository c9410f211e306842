"""Commands that start, stop, inspect and cancel, for people at a shell."""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nblb import launch
from nblb.access import connection_file
from nblb.cli.command import Commands, add, count, settings, show, table
from nblb.client.futures import single_tasks
from nblb.errors import LoadBalancerUnreachable, NblbError, UnknownTask
from nblb.host import account
from nblb.launch import notes, one_shot
from nblb.launch.cluster_list import listed, since_text
from nblb.launch.cluster_processes import StartWarning, StopWarning
from nblb.launch.monitor_links import owners_link
from nblb.quantities import size
from nblb.system.console import printable
from nblb.system.private_folder import with_connection

if TYPE_CHECKING:
    from nblb.parameters import Parameters


def register(commands: Commands) -> None:
    command = add(
        commands, "start", start, "start core, Health Check, Monitor and hub here, or find the running ones", data=True
    )
    command.add_argument("--workers", type=count, metavar="N", help="workers of the hub here; 0 starts no hub")
    command.add_argument("--listen", metavar="ADDRESS", help="listen there for other computers, instead of LB_IP")
    command.add_argument("--no-monitor", action="store_true", help="do not serve the Monitor page")
    command.add_argument("--name", help="the cluster's name, instead of LB_NAME")
    add(commands, "stop", stop, "stop the cluster: hubs, Monitor, Health Check, core")
    add(commands, "status", status, "show the state of the cluster", data=True)
    add(commands, "ls", ls, "list the clusters of this account, running or not", data=True)
    command = add(commands, "health", health, "check from outside that the cluster can run tasks", data=True)
    command.add_argument("--watch", action="store_true", help="check repeatedly, and print what is wrong")
    command.add_argument("--presence", nargs=2, help=argparse.SUPPRESS)
    command = add(commands, "jobs", jobs, "list jobs", data=True)
    command.add_argument("--user", default="", help="only those of this user")
    command.add_argument("--limit", type=count, default=100, help="at most this many (100)")
    command.add_argument("--tasks", action="store_true", help="the single tasks that wait or run, instead of jobs")
    command = add(commands, "cancel", cancel, "cancel tasks", data=True)
    command.add_argument("ids", nargs="*", metavar="TASK", help="single tasks by id, the end of an id, or name (all)")
    command.add_argument("--job", action="append", default=[], metavar="NAME", help="a job by its name or id")
    command.add_argument("--user", default="", help="owner of the job, if not this account")
    command.add_argument("--kill", action="store_true", help="kill running tasks at once, without LB_CANCEL_GRACE_S")


def start(options: argparse.Namespace) -> int:
    """Start core, Health Check, Monitor and a hub on this machine, or find the running ones."""
    parameters = launch.settle(settings(options), options.name)
    if options.listen:
        parameters = parameters.changed(LB_IP=options.listen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StartWarning)  # they are printed below
        cluster = launch.start(parameters, options.workers, not options.no_monitor)
    cluster.close()
    _print_status(options, parameters, cluster.notes)
    return 0


def stop(options: argparse.Namespace) -> int:
    """Stop the cluster; accepted tasks are kept and go on at the next start. Exit code 1: a hub elsewhere is left."""
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", StopWarning)
        found = launch.stop(settings(options))
    for warning in left:
        print(f"note      {warning.message}")
    print("stopped" if found else "nothing was running")
    return 1 if left else 0


def status(options: argparse.Namespace) -> int:
    """Show the state of the cluster: core, hubs, workers, queue."""
    _print_status(options, settings(options))
    return 0


def _print_status(options: argparse.Namespace, parameters: Parameters, sentences: Sequence[str] | None = None) -> None:
    address, core = one_shot.find(parameters)
    said = (core.about if core else {}) | one_shot.ask(address, "status")
    said["monitor"] = launch.monitor_url(parameters)
    said["monitor_link"] = owners_link(parameters)
    if sentences is None:
        found = (notes.security(parameters), notes.monitor_trouble(parameters), notes.monitor_moved(parameters))
        sentences = [*notes.differences(parameters), *filter(None, found)]
    said["notes"] = list(sentences)
    show(options, said, lambda: _status_text(said, address))


def _status_text(said: dict[str, Any], address: str) -> str:
    users = said.get("users", ())
    number = users if isinstance(users, int) else len(users)
    lines = [
        f"{said['name']}: core pid {said['pid']} on {said.get('host', 'this host')}",
        f"workers   {said['workers']:,} in {_counted(said['hubs'], 'hub')}, {said['busy']:,} busy",
        f"tasks     {said['queued']:,} queued, {said['running']:,} running, of {_counted(number, 'user')}",
        f"kept      durability {said['durability']}, in {said.get('state_dir', '')}",
        f"address   {connection_file.split(address)[0]}",
    ]
    lines += [f"scaling   {said['adapts']['text']}"] if said.get("adapts") else []
    lines += [f"if idle   {said['idle_end']['text']}"] if said.get("idle_end") else []
    lines += [f"monitor   {said['monitor_link']}"] if said["monitor"] else []
    return "\n".join([*lines, *(f"note      {sentence}" for sentence in said["notes"])])


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def ls(options: argparse.Namespace) -> int:
    """List the clusters of this account: those that run here, those that have ended, and those that were joined."""
    rows = listed(settings(options))
    columns = ("name", "state", "host", "since", "hubs", "workers", "running", "queued", "where", "note")
    shown = [{**row, "since": since_text(row)} for row in rows]
    show(options, rows, lambda: table(shown, columns, "this account has no cluster; 'nblb start' starts one"))
    return 0


def health(options: argparse.Namespace) -> int:
    """Check from outside: exit code 0 only if a worker answers, 3 if the core does not."""
    if options.watch:
        from nblb.cli import roles

        return roles.health(options)
    from nblb.monitoring.health_check import HealthCheck

    parameters = with_connection(settings(options))
    if parameters.connection:
        return _health_there(options, parameters)
    said = io.StringIO()
    check = HealthCheck(parameters, said)
    able = check.doHealthCheckTasks()
    states = {worker: about.get("state", -1) for worker, about in check.workers.items()}
    answering = sum(state != -1 for state in states.values())
    value = {"ok": able, "core": check.core_answers, "workers": states, "warnings": said.getvalue().splitlines()}
    show(options, value, lambda: said.getvalue() + f"{'OK' if able else 'NOT OK'}: {answering} workers answer")
    return 0 if able else 1 if check.core_answers else 3


def _health_there(options: argparse.Namespace, parameters: Parameters) -> int:
    """Check a cluster on another computer, whose core answers for its hubs."""
    address, _ = one_shot.find(parameters)
    hubs = {row["name"]: row["state"] for row in one_shot.ask(address, "hubs")}
    rows = [row for row in one_shot.ask(address, "workers") if not row["stand_in"]]
    states = {row["worker"]: -1 if hubs.get(row["hub"]) != "up" else 100 * (row["state"] == "idle") for row in rows}
    answering = sum(state != -1 for state in states.values())
    value = {"ok": answering > 0, "core": True, "workers": states, "warnings": []}
    show(options, value, lambda: f"{'OK' if answering else 'NOT OK'}: {answering} workers answer")
    return 0 if answering else 1


def jobs(options: argparse.Namespace) -> int:
    """List the jobs of the cluster, or the single tasks that have not ended."""
    single = single_tasks.listed(lambda topic, about: _ask(options, topic, about), options.user or None)
    if options.tasks:
        shown = single[: options.limit]
        show(options, shown, lambda: table(shown, ("name", "user", "state", "priority", "task"), "no single tasks"))
        return 0
    rows = _ask(options, "jobs", {"user": options.user, "limit": options.limit + 1})
    cut = len(rows) > options.limit
    rows = sorted(rows, key=_running_first)[: options.limit]
    columns = ("name", "task_name", "user", "items", "state", "counts", "took", "size", "job")
    for row in rows:
        row["size"] = size(row["stored_bytes"]) if row.get("stored_bytes") else ""
        row["took"] = f"{row['ended_at'] - row['created_at']:.1f} s" if row["ended_at"] else ""
    more = f"\nonly the latest {options.limit:,} jobs are listed: --limit N lists more" if cut else ""
    more += f"\nand {len(single):,} single tasks that wait or run: nblb jobs --tasks" if single else ""
    show(options, rows, lambda: table(rows, columns, "no jobs") + more)
    return 0


def _running_first(row: dict[str, Any]) -> tuple[bool, float]:
    """The sort key of a job: those that go on, then those that ended last."""
    going = row["state"] == "running"
    return not going, -(row["created_at"] if going else row["ended_at"])


def cancel(options: argparse.Namespace) -> int:
    """Cancel single tasks by id, the end of an id, or name, and jobs by name or id; exit code 1 if there is none."""
    if not options.ids and not options.job:
        raise NblbError("nothing to cancel was given; give ids or names of single tasks, or --job NAME")
    address, _ = one_shot.find(settings(options))
    cancelled = {task: _cancel_task(address, task, options) for task in options.ids}
    for name in options.job:
        known = one_shot.ask(address, "job", {"job": name, "name": name, "user": options.user or account()})
        cancelled[name] = one_shot.cancel(address, job=known["job"], kill=options.kill) if known else 0
    lines = [f"{name}: {number} cancelled" for name, number in cancelled.items()]
    show(options, cancelled, lambda: "\n".join(lines))
    return 0 if any(cancelled.values()) else 1


def _cancel_task(address: str, wanted: str, options: argparse.Namespace) -> int:
    """Cancels by a whole id (also of a job's submission), the end of an id, or a name; returns the number of calls."""
    number = one_shot.cancel(address, task=wanted, kill=options.kill)
    if number:
        return number
    try:
        rows = single_tasks.found(lambda *question: one_shot.ask(address, *question), wanted, options.user or account())
    except UnknownTask as problem:
        print(printable(f"{wanted}: {problem}"), file=sys.stderr)
        return 0
    return sum(one_shot.cancel(address, task=row["task"], kill=options.kill) for row in rows)


def _ask(options: argparse.Namespace, topic: str, about: dict[str, Any] | None = None) -> Any:
    address, _ = one_shot.find(settings(options))
    answer = one_shot.ask(address, topic, {key: value for key, value in (about or {}).items() if value})
    if answer is None:
        raise LoadBalancerUnreachable(f"the load balancer at {address} has no answer to {topic!r}")
    return answer
