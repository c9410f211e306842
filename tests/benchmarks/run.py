"""The comparison of nblb and its peers on the same work: `python -m tests.benchmarks`.

Each case of each system runs in a process of its own; for systems that take many seconds to start, one process runs
several cases, which can only help them. Repeats are interleaved: all systems and cases run once, then all run again.
In each round the cases that README quotes come first, so that a run that exceeds --minutes has measured them. No run
fails because of a time: if a system cannot do a case, the table has a word for it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import psutil

from nblb.bench import cases as shared
from nblb.bench import machine
from tests.benchmarks.cases import BACKLOGS, CASES, SIZES
from tests.benchmarks.goals import needed
from tests.benchmarks.registry import SYSTEMS
from tests.benchmarks.results import Outcome, Results
from tests.benchmarks.tables import into_readme, markdown

KEY = ("startup", "latency", "submit", "map_default", "map_chunked", "array_both_ways", "constant_argument",
       "constant_closure", "constant_put", "closure", "imbalance")  # fmt: skip
ONCE = {"backlog_100000", "backlog_1000000"}
WORK_S = {"backlog_10000": 3.0, "backlog_100000": 8.0, "backlog_1000000": 80.0, "idle": 5.0, "clients": 8.0,
          "hubs": 15.0, "paused": 3.0, "commands": 4.0, "grid_search_10ms": 3.0, "grid_search_100ms": 7.0,
          "grid_search_1000ms": 7.0, "sweep": 12.0, "printing": 6.0}  # fmt: skip
MARK = "NBLB_BENCH_RUN"  # all processes of a run inherit it, so that none outlives the run


class Run(NamedTuple):
    repeat: int
    cases: tuple[str, ...]  # the cases that one process runs
    system: str

    @property
    def about_s(self) -> float:
        """The estimated time on a quiet machine with two cores."""
        entry = SYSTEMS[self.system]
        if not entry.swift and set(self.cases) & ONCE:
            return 0.0  # the backlog is not reached, so the case is skipped
        works = (entry.case_s if case in shared.CASES else WORK_S.get(case, 1.0) for case in self.cases)
        if self.system != "nblb":
            works = (min(work, 8.0) for work in works)  # a peer has Size.say_s for a backlog
        return 0.5 + entry.start_s + sum(works)


def plan(systems: list[str], cases: list[str], repeats: int, only: set[tuple[str, str]] | None = None) -> list[Run]:
    """All runs in order; with `only`, just these (case, system) pairs."""

    def stage(run: Run) -> tuple[int, bool, bool]:
        swift = SYSTEMS[run.system].swift
        return run.repeat, run.cases[0] not in KEY, run.repeat > 0 and not swift

    runs: list[Run] = []
    for repeat in range(repeats):
        wanted = [case for case in cases if not repeat or case not in ONCE]
        done: set[tuple[str, str]] = set()
        for case in wanted:
            for system in systems:
                if (case, system) in done or (only is not None and (case, system) not in only):
                    continue
                run = Run(repeat, _together(case, system, wanted, only), system)
                done |= {(one, system) for one in run.cases}
                runs.append(run)
    return sorted(runs, key=stage)


def _together(case: str, system: str, cases: list[str], only: set[tuple[str, str]] | None) -> tuple[str, ...]:
    """The cases that one process runs when it is this case's turn."""
    entry = SYSTEMS[system]
    if entry.swift or case not in shared.CASES or case in entry.alone:
        return (case,)
    return tuple(
        other
        for other in cases
        if other in shared.CASES and other not in entry.alone and (only is None or (other, system) in only)
    )


def perform(systems: list[str], cases: list[str], options: argparse.Namespace) -> Results:
    """Perform all runs, and print a line for each on stderr."""
    results = Results(
        when=time.strftime("%Y-%m-%d %H:%M"),
        machine=machine.describe(),
        versions={name: SYSTEMS[name].version for name in systems},
        size=options.size,
    )
    until = time.monotonic() + 60 * options.minutes if options.minutes else None
    for name in systems:
        if not SYSTEMS[name].installed:
            results.words.update({f"{case}/{name}": "not installed" for case in cases})
    runs = plan(systems, cases, options.repeats, needed() if options.goals else None)
    _announce(runs)
    for run in runs:
        left = tuple(case for case in run.cases if f"{case}/{run.system}" not in results.words)
        if not left:
            continue
        if until is not None and time.monotonic() > until:
            results.cut_short += len(left)
            continue
        for case, outcome in one(run.system, left, options.size, options.timeout).items():
            results.note(case, run.system, outcome)
            said = outcome.word or {name: round(value, 3) for name, value in outcome.figures.items()}
            print(
                f"{run.repeat + 1} {case:18} {run.system:12} {outcome.took_s:5.1f} s  {said}",
                file=sys.stderr,
                flush=True,
            )
            _skip_larger(results, run.system, case, outcome)
    results.load_at_end = [round(load, 2) for load in os.getloadavg()]
    return results


def _announce(runs: list[Run]) -> None:
    installed = [run for run in runs if SYSTEMS[run.system].installed]
    rounds = [sum(run.about_s for run in installed if run.repeat == n) / 60 for n in {run.repeat for run in runs}]
    each = ", ".join(f"{minutes:.0f}" for minutes in rounds)
    print(
        f"{len(installed)} runs; minutes of the rounds, on a quiet machine: about {each}", file=sys.stderr, flush=True
    )


def _skip_larger(results: Results, system: str, case: str, outcome: Outcome) -> None:
    """Skip larger backlogs for a system that has not reached this one in time."""
    if not case.startswith("backlog_"):
        return
    queued, reached = int(case.removeprefix("backlog_")), outcome.figures.get("reached", 0)
    if reached < queued:
        for larger in BACKLOGS:
            if larger > queued:
                results.words[f"backlog_{larger}/{system}"] = outcome.word or f"{reached:,.0f} reached"


def one(system: str, cases: tuple[str, ...], size: str, timeout_s: float) -> dict[str, Outcome]:
    """Run one process, and return the outcomes of its cases; end and report processes that it leaves behind."""
    mark = uuid.uuid4().hex
    begun, over = time.perf_counter(), ""
    patience_s = timeout_s * (1 + len(cases)) / 2
    with tempfile.TemporaryDirectory(prefix="nb", dir="/tmp" if Path("/tmp").is_dir() else None) as folder:
        environment = {**os.environ, MARK: mark, "NBLB_RUNTIME_DIR": folder, "TMPDIR": folder}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.one", system, ",".join(cases), size],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        try:
            said, complained = process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            over = f"over {patience_s:.0f} s"
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        finally:
            left = end_all(mark)
        if over:
            process.kill()
            said, complained = process.communicate()  # its output until then
    took = time.perf_counter() - begun
    found = _outcomes(said)
    last = over or "failed: " + (complained.strip().splitlines() or ["no output"])[-1][:80]
    for case in cases:
        found.setdefault(case, Outcome(word=last))
    if left and not over and system == "nblb":
        found = {case: Outcome(word="left " + "; ".join(left)) for case in cases}
    if len(cases) == 1:
        found[cases[0]].took_s = took
    return found


def _outcomes(said: str) -> dict[str, Outcome]:
    """The outcomes of completed cases, read from the output lines (see one.py)."""
    found = {}
    for line in said.splitlines():
        kind, *rest = line.split(" ", 3)
        if kind in ("FIGURES", "WORD") and len(rest) == 3:
            case, took, text = rest
            found[case] = (
                Outcome(json.loads(text), took_s=float(took))
                if kind == "FIGURES"
                else Outcome(word=text, took_s=float(took))
            )
    return found


def end_all(mark: str) -> list[str]:
    """End the processes that still have the mark, and return their descriptions."""
    left = []
    for process in _marked(mark):
        with contextlib.suppress(psutil.Error):
            process.wait(2)  # it is exiting already
    for process in _marked(mark):
        with contextlib.suppress(psutil.Error):
            left.append(" ".join(process.cmdline())[:60])
            process.kill()
    return left


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", default=",".join(SYSTEMS), metavar="A,B", help=f"of {', '.join(SYSTEMS)} (all)")
    parser.add_argument("--cases", default=",".join(CASES), metavar="A,B", help=f"of {', '.join(CASES)} (all)")
    parser.add_argument("--repeats", type=int, default=3, help="of each run (3)")
    parser.add_argument("--minutes", type=float, default=20.0, help="no new run begins after them (20); 0: no limit")
    parser.add_argument("--timeout", type=float, default=240.0, metavar="S", help="for one run (240)")
    parser.add_argument("--quick", action="store_true", help="one repeat, less work, no large backlogs: some minutes")
    parser.add_argument("--goals", action="store_true", help="only what the goals compare")
    parser.add_argument("--size", choices=SIZES, default="full", help="how much work a case is (full)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument(
        "--from", type=Path, metavar="FILE", dest="source", help="measure nothing: tables of such a file"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument(
        "--readme", type=Path, metavar="FILE", help="put the short table between its marks in this file"
    )
    return parser.parse_args(arguments)


def chosen(said: str, known: dict[str, object], what: str) -> list[str]:
    names = [name.strip() for name in said.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise SystemExit(f"there is no {what} {name!r}; there are {', '.join(known)}")
    return names


def main(arguments: list[str] | None = None) -> Results:
    given = options(arguments)
    systems = chosen(given.systems, dict(SYSTEMS), "system")
    cases = chosen(given.cases, dict(CASES), "case")
    if given.quick:
        given.repeats, given.size = 1, "quick"
        cases = [case for case in cases if case not in ONCE]
    results = Results(**json.loads(given.source.read_text())) if given.source else perform(systems, cases, given)
    tables = markdown(results)
    print(tables)
    if given.json:
        given.json.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    if given.markdown:
        given.markdown.write_text(tables + "\n", encoding="utf-8")
    if given.readme:
        into_readme(given.readme, results)
    return results


if __name__ == "__main__":
    main()
