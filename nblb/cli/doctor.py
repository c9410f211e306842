"""The command that looks for what is wrong with a cluster: its computer and network, or the files of its journal."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nblb.cli.command import Commands, add, settings, show
from nblb.parameters import load

if TYPE_CHECKING:
    from nblb.broker.journal.examine import Report

MOST_SHOWN = 20  # bad files; --json has all


def register(commands: Commands) -> None:
    command = add(commands, "doctor", doctor, "check what may keep a cluster from working", data=True)
    command.add_argument("--from", dest="hosts", action="append", default=[], metavar="USER@MACHINE",
                         help="check from this computer as well, over ssh, that the core can be reached")  # fmt: skip
    command.add_argument("--journal", action="store_true", help="check the rows and payload files of the journal")
    command.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the results that can be read to this folder"
    )
    command.add_argument(
        "--repair", action="store_true", help="replace a damaged journal by one with all that can be read"
    )


def doctor(options: argparse.Namespace) -> int:
    """Check keys, ports, firewalls, clocks, versions, limits, file systems, proxies and units, a line each.

    With --journal, --export or --repair it checks the journal of a cluster that does not run instead, exports what it
    has, or repairs it. Exit code 1: something does not work, or is damaged.
    """
    if not (options.journal or options.export or options.repair):
        return _check_up(options)
    from nblb.broker.journal.examine import Examination

    folder = load(options.parameters).state_dir
    done: dict[str, Any] = {}
    with closing(Examination(folder)) as examination:
        if options.export is not None:
            done["exported"] = examination.export(options.export)
            examination.report.rows.clear()
            examination.report.damaged.clear()
        report = examination.check()
        rows, damaged = dict(report.rows), dict(report.damaged)
        if options.repair and not report.is_sound:
            done["repaired"] = str(examination.repair())
        report.rows, report.damaged = rows, damaged
    show(options, {**asdict(report), "sound": report.is_sound, **done}, lambda: _text(report, done))
    return 0 if report.is_sound or "repaired" in done else 1


def _check_up(options: argparse.Namespace) -> int:
    """Run all checks of this computer, its network and the cluster, and print a line for each finding."""
    from nblb.launch.doctor.checks import all_findings

    found = all_findings(settings(options), options.hosts)
    show(options, [finding._asdict() for finding in found], lambda: "\n".join(map(str, found)))
    return 1 if any(finding.level == "fail" for finding in found) else 0


def _text(report: Report, done: dict[str, Any]) -> str:
    tasks, ends = report.rows.get("tasks", 0), report.rows.get("ends", 0)
    bad = sum(report.damaged.values())
    lines = [f"{report.folder}: {tasks:,} submissions, {ends:,} ends, {report.files:,} payload files"]
    lines += report.problems
    if bad:
        lines.append(f"damaged rows: {', '.join(f'{n:,} in {table}' for table, n in report.damaged.items())}")
    lines += report.bad_files[:MOST_SHOWN]
    if len(report.bad_files) > MOST_SHOWN:
        lines.append(f"… and {len(report.bad_files) - MOST_SHOWN:,} more files")
    if report.is_sound:
        lines.append("nothing is damaged")
    if "exported" in done:
        lines.append(f"exported {done['exported']:,} results; items.jsonl lists them")
    if "repaired" in done:
        lines.append(f"the journal was replaced by what can be read; the damaged one is {done['repaired']}")
    return "\n".join(lines)
