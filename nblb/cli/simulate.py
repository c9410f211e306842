"""`nblb simulate`: plays histories with faults on the real state machines, replays one, or forecasts a cluster."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import msgspec

from nblb.cli.command import Commands, add, at_least_one, count, seconds, share, show, table

if TYPE_CHECKING:
    from nblb.simulation.story import HistoryResult
    from nblb.simulation.what_if import Load, WhatIf


SEEDS = 1000
MOST_WORKERS = 1_000_000
MOST_USERS = 10_000
MOST_TASKS = 100_000_000
LOAD = {"users": "--users", "hubs": "--hubs", "workers": "--workers", "tasks": "--tasks", "lengths": "--seconds",
        "stagger_s": "--stagger", "jobs": "--jobs", "pattern": "--pattern", "load": "--load",
        "shares": "--shares"}  # fmt: skip
TRACES = {"trace": "--trace", "journal": "--journal"}
HISTORIES = {"seeds": "--seeds", "start": "--start", "processes": "--processes"}


def register(commands: Commands) -> None:
    command = add(
        commands, "simulate", simulate, "play histories with faults, or forecast a cluster under load", data=True,
        parameters=False,
    )  # fmt: skip
    command.set_defaults(refuse=command.error)
    command.add_argument("--seeds", type=at_least_one, metavar="N", help=f"number of histories ({SEEDS:,})")
    command.add_argument("--start", type=count, metavar="S", help="the first seed (0)")
    command.add_argument("--seed", type=count, metavar="S", help="play this history again, and print its trace")
    command.add_argument("--processes", type=at_least_one, metavar="N", help="number of processes (one per core)")
    command.add_argument(
        "--mixed", action="store_true", help="histories in which calls take from a millisecond to hours"
    )
    load = command.add_argument_group("what if (no faults; the real scheduler under a virtual clock)")
    load.add_argument("--users", type=at_least_one, metavar="N", help="number of users who share the cluster (3)")
    load.add_argument("--hubs", type=at_least_one, metavar="N", help="number of hubs (4)")
    load.add_argument("--workers", type=at_least_one, metavar="N", help="workers of each hub (8)")
    load.add_argument("--tasks", type=at_least_one, metavar="N", help="tasks of all users together (10,000)")
    load.add_argument(
        "--seconds", type=_lengths, dest="lengths", metavar="S[,S…]",
        help="mean length of a task (1); several: of the first user, of the second, and so on",
    )  # fmt: skip
    load.add_argument(
        "--stagger", type=seconds, dest="stagger_s", metavar="S", help="time between the starts of two users (0)"
    )

    load.add_argument("--jobs", type=at_least_one, metavar="N", help="jobs of each user, which share its tasks (1)")
    load.add_argument("--pattern", choices=("at-once", "poisson", "daily"), help="when the jobs come (at-once)")
    load.add_argument(
        "--load", type=_load, metavar="X", help="unless all come at once: work per time that the workers have (0.8)"
    )
    load.add_argument(
        "--shares", type=_shares, metavar="S[,S…]", help="share of the first user, of the second, and so on (1)"
    )
    load.add_argument("--trace", type=Path, metavar="FILE", help="play a trace in Standard Workload Format (.swf, .gz)")
    load.add_argument("--journal", type=Path, metavar="FOLDER", help="play what a cluster's state folder has recorded")
    load.add_argument("--plot", type=Path, metavar="FILE.html", help="also write charts of the forecast to this file")


def _shares(text: str) -> tuple[float, ...]:
    """Parses one or several shares."""
    return tuple(share(part) for part in text.split(","))


def _load(text: str) -> float:
    """Parses a number above 0."""
    number = seconds(text)
    if number <= 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _lengths(text: str) -> tuple[float, ...]:
    """Parses one or several numbers of seconds, each above 0."""
    lengths = tuple(seconds(part) for part in text.split(","))
    if not all(lengths):
        raise argparse.ArgumentTypeError(f"{text!r}: a task takes more than 0 seconds")
    return lengths


def simulate(options: argparse.Namespace) -> int:
    """Play seeded histories in which core, hubs, workers, clients, network and disk fail; exit 1 if a promise breaks.

    With any of --users, --hubs, --workers, --tasks, --seconds, --stagger: a forecast without faults of what a cluster
    of that size would do with that load, for instance `nblb simulate --users 3 --hubs 2 --workers 8 --tasks 600`.
    """
    asked = {name: value for name in LOAD if (value := getattr(options, name)) is not None}
    played = [word for name, word in HISTORIES.items() if getattr(options, name) is not None]
    if options.seed is not None and played:
        options.refuse(f"--seed plays one history, {played[0]} applies to many; give only one of the two")
    played += ["--mixed"] * options.mixed
    if asked and played:
        word = LOAD[next(iter(asked))]
        options.refuse(f"{played[0]} is for histories, but {word} asks for a forecast; give only one of the two")
    traced = [word for name, word in TRACES.items() if getattr(options, name) is not None]
    if traced and played:
        options.refuse(f"{played[0]} is for histories, but {traced[0]} asks for a forecast; give only one of the two")
    if traced:
        return _trace(options, asked, traced)
    if asked:
        return _what_if(options, asked)
    if options.plot is not None:
        options.refuse("--plot draws a forecast; add --users, --tasks, --trace or --journal")
    return _replay(options) if options.seed is not None else _explore(options)


def _explore(options: argparse.Namespace) -> int:
    from nblb.simulation.runner import explore

    began = perf_counter()
    processes = options.processes or os.cpu_count() or 1
    start, seeds = options.start or 0, options.seeds or SEEDS
    report = explore(range(start, start + seeds), processes, mixed=options.mixed)
    spent = perf_counter() - began
    value = {
        "histories": report.histories,
        "violations": len(report.bad),
        "bad": [{"seed": bad.seed, "rule": bad.rule, "what": bad.violation} for bad in report.bad],
        "events": report.events,
        "tasks": report.tasks,
        "virtual_s": report.virtual_s,
        "seconds": spent,
    }

    def text() -> str:
        lines = [_violation(bad, options.mixed) for bad in report.bad]
        lines.append(
            f"{report.histories:,} histories, {len(report.bad)} violations; {report.tasks:,} tasks and "
            f"{report.virtual_s / 3600:.1f} virtual hours in {spent:.1f} s ({report.histories / spent:.0f} histories/s)"
        )
        return "\n".join(lines)

    show(options, value, text)
    return 1 if report.bad else 0


def _violation(bad: HistoryResult, mixed: bool) -> str:
    from nblb.simulation.runner import replay_command

    return f"seed {bad.seed}: {bad.violation}\n  play it again: {replay_command(bad.seed, mixed)}"


def _replay(options: argparse.Namespace) -> int:
    from nblb.simulation.story import History, MixedLengths, play

    outcome = play(options.seed, tracing=True, make=MixedLengths if options.mixed else History)
    value = msgspec.to_builtins(outcome)
    verdict = outcome.violation or "no promise was broken"
    show(options, value, lambda: "\n".join([*outcome.trace, "", f"seed {outcome.seed}: {verdict}"]))
    return 1 if outcome.violation else 0


def _what_if(options: argparse.Namespace, asked: dict[str, Any]) -> int:
    from nblb.simulation.what_if import Load

    load = Load(**asked, seed=options.seed or 0)
    if load.hubs * load.workers > MOST_WORKERS:
        options.refuse(f"{load.hubs:,} hubs of {load.workers:,} workers are more than {MOST_WORKERS:,} workers")
    if load.users > MOST_USERS or load.tasks > MOST_TASKS:
        options.refuse(f"there may be {MOST_USERS:,} users and {MOST_TASKS:,} tasks at most")
    if load.tasks < load.users:
        options.refuse(f"{_many(load.users, 'user')} need at least as many tasks, --tasks is {load.tasks:,}")
    if len(load.lengths) > load.users:
        options.refuse(f"--seconds has {len(load.lengths)} lengths, for {_many(load.users, 'user')}")
    return _answered(options, load, _question(load))


def _answered(options: argparse.Namespace, load: Load, question: str) -> int:
    from nblb.simulation.planning import plot
    from nblb.simulation.what_if import what_if

    answer = what_if(load, process_time)  # the core's computing time, however busy this machine is
    if options.plot is not None:
        plot.write(answer, question, options.plot)
    show(options, msgspec.to_builtins(answer), lambda: _words(question, answer))
    return 0


def _trace(options: argparse.Namespace, asked: dict[str, Any], traced: list[str]) -> int:
    """Plays recorded jobs on a cluster of the given size, or of the size that the trace names."""
    from nblb.simulation.planning import journal_trace, swf
    from nblb.simulation.what_if import Load

    if len(traced) > 1:
        options.refuse("--trace and --journal are two loads; give only one of the two")
    if wrong := next((LOAD[name] for name in asked if name not in ("hubs", "workers")), ""):
        options.refuse(f"{wrong} describes a load, and {traced[0]} has one; only --hubs and --workers go with it")
    trace = swf.read(options.trace) if options.trace is not None else journal_trace.read(options.journal)
    hubs = asked.get("hubs", 1)
    workers = asked.get("workers") or (-(-trace.workers // hubs) if trace.workers else Load().workers)
    load = Load(hubs=hubs, workers=workers, trace=trace.arrivals, seed=options.seed or 0)
    if hubs * workers > MOST_WORKERS:
        options.refuse(f"{hubs:,} hubs of {workers:,} workers are more than {MOST_WORKERS:,} workers")
    users, tasks = len({job.user for job in trace.arrivals}), sum(job.items for job in trace.arrivals)
    left_out = f" ({_many(trace.left_out, 'job')} without a run time left out)" if trace.left_out else ""
    return _answered(
        options,
        load,
        f"{_many(len(trace.arrivals), 'job')} of {_many(tasks, 'task')} from {_many(users, 'user')} in {traced[0]}"
        f"{left_out}, on {_many(hubs, 'hub')} of {_many(workers, 'worker')}",
    )


def _question(load: Load) -> str:
    apart = f", who come {load.stagger_s:g} s apart" if load.stagger_s and load.users > 1 else ""
    lengths = " or ".join(f"{length:g} s" for length in dict.fromkeys(load.lengths or (load.seconds,)))
    jobs = f", each in {_many(load.jobs, 'job')}" if load.jobs > 1 else ""
    pattern = "" if load.pattern == "at-once" else f", {load.pattern} at a load of {load.load:g}"
    return (
        f"{_many(load.tasks, 'task')} of about {lengths} from {_many(load.users, 'user')}{apart}{jobs}{pattern}, "
        f"on {_many(load.hubs, 'hub')} of {_many(load.workers, 'worker')}"
    )


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _words(question: str, answer: WhatIf) -> str:
    from nblb.simulation.planning.plot import figures

    rows = [{**msgspec.to_builtins(user), "seconds": f"{user.seconds:g}"} for user in answer.users[:20]]
    columns = ("user", "jobs", "tasks", "seconds", "share", "came_at", "first_start_s", "median_wait_s", "wait_90_s",
               "max_wait_s", "done_after_s")  # fmt: skip
    return "\n".join(
        [
            question,
            "",
            *(f"{name:<12} {value}" for name, value in figures(answer)),
            "",
            table(rows, columns, "no users"),
            *([f"… and {len(answer.users) - 20} more users"] if len(answer.users) > 20 else []),
        ]
    )
