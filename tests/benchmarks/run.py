"""nblb and its peers on the same work: `python -m tests.benchmarks`.

Each case of each system runs in a process of its own, and repeats are interleaved: first, second, third time of all.
What matters most comes first, so that a run that is over its --minutes has measured that: all systems once, then the
cases that README quotes again, then what is left. Nothing here fails by time: whatever a system cannot do is a word
in the table.
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

from nblb.bench import machine
from tests.benchmarks.cases import BACKLOGS, CASES, SIZES
from tests.benchmarks.registry import SYSTEMS
from tests.benchmarks.results import Outcome, Results
from tests.benchmarks.tables import into_readme, markdown

KEY = ("startup", "latency", "submit", "map_default", "map_chunked", "array_both_ways", "constant_argument",
       "constant_closure", "constant_put", "closure", "imbalance")  # fmt: skip
ONCE = {"backlog_100000", "backlog_1000000"}
MARK = "NBLB_BENCH_RUN"  # all that a run starts inherits it, so that nothing of it outlives it


class Run(NamedTuple):
    repeat: int
    case: str
    system: str


def plan(systems: list[str], cases: list[str], repeats: int) -> list[Run]:
    """All runs in their order."""

    def stage(run: Run) -> tuple[int, int]:
        swift, key = SYSTEMS[run.system].swift, run.case in KEY
        if run.repeat == 0:
            return (0 if key else 1 if swift else 3), 0
        return (2 if key and swift else 4 if swift else 5), run.repeat

    runs = [
        Run(repeat, case, system)
        for repeat in range(repeats)
        for case in cases
        for system in systems
        if not repeat or case not in ONCE
    ]
    return sorted(runs, key=stage)


def perform(systems: list[str], cases: list[str], options: argparse.Namespace) -> Results:
    """All of it, with a line for each run on stderr."""
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
    for run in plan(systems, cases, options.repeats):
        key = f"{run.case}/{run.system}"
        if key in results.words:
            continue
        if until is not None and time.monotonic() > until:
            results.cut_short += 1
            continue
        outcome = one(run.system, run.case, options.size, options.timeout)
        results.note(run.case, run.system, outcome)
        said = outcome.word or {name: round(value, 3) for name, value in outcome.figures.items()}
        print(
            f"{run.repeat + 1} {run.case:18} {run.system:12} {outcome.took_s:5.1f} s  {said}",
            file=sys.stderr,
            flush=True,
        )
        _skip_larger(results, run, outcome)
    results.load_at_end = [round(load, 2) for load in os.getloadavg()]
    return results


def _skip_larger(results: Results, run: Run, outcome: Outcome) -> None:
    """Who has not reached a backlog in time need not try a larger one."""
    if not run.case.startswith("backlog_"):
        return
    queued, reached = int(run.case.removeprefix("backlog_")), outcome.figures.get("reached", 0)
    if reached < queued:
        for larger in BACKLOGS:
            if larger > queued:
                results.words[f"backlog_{larger}/{run.system}"] = outcome.word or f"{reached:,.0f} reached"


def one(system: str, case: str, size: str, timeout_s: float) -> Outcome:
    """One run in a process of its own; whatever it leaves behind is ended, and said."""
    mark = uuid.uuid4().hex
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="nb", dir="/tmp" if Path("/tmp").is_dir() else None) as folder:
        environment = {**os.environ, MARK: mark, "NBLB_RUNTIME_DIR": folder, "TMPDIR": folder}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.one", system, case, size],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        over = False
        try:
            said, complained = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            over = True
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            said = complained = ""
        finally:
            left = end_all(mark)
        if over:
            process.kill()
            process.communicate()
    took = time.perf_counter() - begun
    if over:
        return Outcome(word=f"over {timeout_s:.0f} s", took_s=took)
    return _outcome(said, complained, took, left if system == "nblb" else [])


def _outcome(said: str, complained: str, took: float, left: list[str]) -> Outcome:
    for line in said.splitlines():
        if line.startswith("FIGURES "):
            if left:
                return Outcome(word="left " + "; ".join(left), took_s=took)
            return Outcome(json.loads(line.removeprefix("FIGURES ")), took_s=took)
        if line.startswith("WORD "):
            return Outcome(word=line.removeprefix("WORD "), took_s=took)
    last = (complained.strip().splitlines() or ["it said nothing"])[-1]
    return Outcome(word=f"failed: {last[:80]}", took_s=took)


def end_all(mark: str) -> list[str]:
    """Ends what still has the mark; what that was."""
    left = []
    for process in _marked(mark):
        with contextlib.suppress(psutil.Error):
            process.wait(2)  # on its way out
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
    parser.add_argument("--minutes", type=float, default=14.0, help="no new run begins after them (14); 0: no limit")
    parser.add_argument("--timeout", type=float, default=240.0, metavar="S", help="for one run (240)")
    parser.add_argument("--quick", action="store_true", help="one repeat, less work, no large backlogs: some minutes")
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
