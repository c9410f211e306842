"""`nblb simulate`: play faulty histories of the real machines, see one again, or ask what a cluster would do."""

from __future__ import annotations

import argparse
import os
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import msgspec

from nblb.cli.command import Commands, add, count, show, table

if TYPE_CHECKING:
    from nblb.simulation.story import HistoryResult
    from nblb.simulation.what_if import Load, WhatIf


def register(commands: Commands) -> None:
    command = add(
        commands, "simulate", simulate, "play faulty histories, or ask what a cluster would do with a load", data=True,
        parameters=False,
    )  # fmt: skip
    command.add_argument("--seeds", type=count, default=1000, metavar="N", help="how many histories (1000)")
    command.add_argument("--start", type=count, default=0, metavar="S", help="the first seed (0)")
    command.add_argument("--seed", type=count, metavar="S", help="play this one again, and print its trace")
    command.add_argument("--processes", type=count, metavar="N", help="at a time (one per core)")
    load = command.add_argument_group("what if (no faults; the real scheduler under a virtual clock)")
    load.add_argument("--users", type=count, metavar="N", help="so many users share the cluster (3)")
    load.add_argument("--hubs", type=count, metavar="N", help="so many hubs (4)")
    load.add_argument("--workers", type=count, metavar="N", help="of each hub (8)")
    load.add_argument("--tasks", type=count, metavar="N", help="of all users together (10,000)")
    load.add_argument("--seconds", type=float, metavar="S", help="that a task takes, on average (1)")
    load.add_argument("--stagger", type=float, metavar="S", help="between one user's coming and the next's (0)")


def simulate(options: argparse.Namespace) -> int:
    """Play seeded histories in which core, hubs, workers, clients, network and disk fail; exit 1 if a promise breaks.

    With any of --users, --hubs, --workers, --tasks, --seconds, --stagger: no faults, but a cluster of that size and
    what it would do with such a load, for instance `nblb simulate --users 3 --hubs 2 --workers 8 --tasks 600`.
    """
    names = {"users": "users", "hubs": "hubs", "workers": "workers", "tasks": "tasks", "seconds": "seconds",
             "stagger": "stagger_s"}  # fmt: skip
    asked = {field: getattr(options, name) for name, field in names.items() if getattr(options, name) is not None}
    if asked:
        return _what_if(options, asked)
    return _replay(options) if options.seed is not None else _explore(options)


def _explore(options: argparse.Namespace) -> int:
    from nblb.simulation.runner import explore

    began = perf_counter()
    processes = options.processes or os.cpu_count() or 1
    report = explore(range(options.start, options.start + options.seeds), processes)
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
        lines = [_violation(bad) for bad in report.bad]
        lines.append(
            f"{report.histories:,} histories, {len(report.bad)} violations; {report.tasks:,} tasks and "
            f"{report.virtual_s / 3600:.1f} virtual hours in {spent:.1f} s ({report.histories / spent:.0f} histories/s)"
        )
        return "\n".join(lines)

    show(options, value, text)
    return 1 if report.bad else 0


def _violation(bad: HistoryResult) -> str:
    from nblb.simulation.runner import replay_command

    return f"seed {bad.seed}: {bad.violation}\n  see it again: {replay_command(bad.seed)}"


def _replay(options: argparse.Namespace) -> int:
    from nblb.simulation.story import play

    outcome = play(options.seed, tracing=True)
    value = msgspec.to_builtins(outcome)
    verdict = outcome.violation or "no promise was broken"
    show(options, value, lambda: "\n".join([*outcome.trace, "", f"seed {outcome.seed}: {verdict}"]))
    return 1 if outcome.violation else 0


def _what_if(options: argparse.Namespace, asked: dict[str, float]) -> int:
    from nblb.simulation.what_if import Load, what_if

    load = Load(**asked, seed=options.seed or 0)  # type: ignore[arg-type]  # argparse has made them of the right kinds
    answer = what_if(load, process_time)  # what the core computes, however busy this machine is
    show(options, msgspec.to_builtins(answer), lambda: _words(load, answer))
    return 0


def _question(load: Load) -> str:
    apart = f", who come {load.stagger_s:g} s apart" if load.stagger_s and load.users > 1 else ""
    return (
        f"{_many(load.tasks, 'task')} of about {load.seconds:g} s from {_many(load.users, 'user')}{apart}, "
        f"on {_many(load.hubs, 'hub')} of {_many(load.workers, 'worker')}"
    )


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _words(load: Load, answer: WhatIf) -> str:
    rows = [msgspec.to_builtins(user) for user in answer.users[:20]]
    columns = ("user", "tasks", "came_at", "first_start_s", "mean_wait_s", "max_wait_s", "done_after_s")
    return "\n".join(
        [
            _question(load),
            "",
            f"makespan     {answer.makespan_s:,.1f} s (no less than {answer.ideal_s:,.1f} s)",
            f"utilisation  {100 * answer.utilisation:.1f} %",
            f"core         {answer.decisions:,} decisions and {answer.messages:,} messages in {answer.core_s:.2f} s",
            f"             {answer.decisions_per_s:,.0f} decisions/s, {answer.tasks_per_s:,.0f} tasks/s",
            "",
            table(rows, columns, "no users"),
            *([f"… and {len(answer.users) - 20} more users"] if len(answer.users) > 20 else []),
        ]
    )
