"""The tables of results: one for each case, a short one for README.md, and the goals."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.cases import CASES
from tests.benchmarks.goals import GOALS
from tests.benchmarks.registry import SYSTEMS
from tests.benchmarks.results import Results

BEGIN, END = "<!-- benchmarks: written by python -m tests.benchmarks --readme -->", "<!-- end of benchmarks -->"


class Row(NamedTuple):
    """A line of the short table."""

    title: str
    case: str
    figure: str
    less: bool  # True if less is better
    shown: str = "{:,.3g}"
    scale: float = 1.0


ROWS = (
    Row("start, to a result from each of 2 workers, s", "startup", "seconds", True, "{:.2f}"),
    Row("one task there and back, median, ms", "latency", "p50_us", True, "{:.2f}", 1e-3),
    Row("the same, 99 of 100, ms", "latency", "p99_us", True, "{:.2f}", 1e-3),
    Row("single submits, tasks/s", "submit", "tasks_per_s", False, "{:,.0f}"),
    Row("map as it is, items/s", "map_default", "items_per_s", False, "{:,.0f}"),
    Row("map with a chunk size, items/s", "map_chunked", "items_per_s", False, "{:,.0f}"),
    Row("64 MiB array both ways, MiB/s", "array_both_ways", "MiB_per_s", False, "{:,.0f}"),
    Row("64 MiB in 20 tasks, as argument, s", "constant_argument", "seconds", True, "{:.2f}"),
    Row("the same in the closure, s", "constant_closure", "seconds", True, "{:.2f}"),
    Row("the same put once, s", "constant_put", "seconds", True, "{:.2f}"),
    Row("tasks with a closure of 1 MiB, tasks/s", "closure", "tasks_per_s", False, "{:,.0f}"),
    Row("uneven tasks, time / ideal", "imbalance", "of_ideal", True, "{:.2f}"),
    Row("submit behind 10,000 queued, us", "backlog_10000", "submit_us", True, "{:,.0f}"),
    Row("submit behind 1,000,000 queued, us", "backlog_1000000", "submit_us", True, "{:,.0f}"),
    Row("dispatch of 10,000 queued, us a task", "backlog_10000", "dispatch_us", True, "{:,.0f}"),
    Row("dispatch of 1,000,000 queued, us a task", "backlog_1000000", "dispatch_us", True, "{:,.0f}"),
    Row("memory of the broker, KiB a queued task", "backlog_100000", "core_KiB", True, "{:.2f}"),
    Row("idle, % of a core", "idle", "percent", True, "{:.2f}"),
    Row("20 clients at once, tasks/s", "clients", "tasks_per_s", False, "{:,.0f}"),
    Row("20 hubs on this machine: start, s", "hubs", "seconds", True, "{:.1f}"),
    Row("single submits to them, tasks/s", "hubs", "tasks_per_s", False, "{:,.0f}"),
    Row("one task after 20 ms of pause, median, ms", "paused", "p50_us", True, "{:.2f}", 1e-3),
    Row("the same, 99 of 100, ms", "paused", "p99_us", True, "{:.2f}", 1e-3),
    Row("2,000 commands (`true`), tasks/s", "commands", "tasks_per_s", False, "{:,.0f}"),
    Row("200 Python functions, tasks/s", "functions", "tasks_per_s", False, "{:,.0f}"),
    Row("grid search, 10 ms a fit, time / ideal", "grid_search_10ms", "of_ideal", True, "{:.2f}"),
    Row("grid search, 100 ms a fit, time / ideal", "grid_search_100ms", "of_ideal", True, "{:.2f}"),
    Row("grid search, 1 s a fit, time / ideal", "grid_search_1000ms", "of_ideal", True, "{:.2f}"),
    Row("40 simulations with 1 MiB each, time / ideal", "sweep", "of_ideal", True, "{:.2f}"),
    Row("10,000 tasks that print 1 KiB, tasks/s", "printing", "tasks_per_s", False, "{:,.0f}"),
)


def short(results: Results) -> str:
    """The short table: medians, and by which factor nblb is better (above 1) or worse than each peer."""
    systems = [name for name in SYSTEMS if name in results.versions and _has_figures(results, name)]
    heads = [SYSTEMS[name].title for name in systems]
    lines = ["| | " + " | ".join(heads) + " |", "|---" + "|---:" * len(systems) + "|"]
    lines += [
        f"| {row.title} | " + " | ".join(_cell(results, row, name) for name in systems) + " |"
        for row in ROWS
        if row.case in results.cases
    ]
    return "\n".join(lines)


def _has_figures(results: Results, system: str) -> bool:
    return any(key.endswith(f"/{system}") for key in results.figures)


def _cell(results: Results, row: Row, system: str) -> str:
    found = results.summary(row.case, system, row.figure)
    if found is None:
        return "" if f"{row.case}/{system}" in results.figures else results.word(row.case, system)
    reached = results.median(row.case, system, "reached")
    if reached is not None and reached < int(row.case.removeprefix("backlog_")):
        return f"{reached:,.0f} reached"
    text = row.shown.format(found.median * row.scale)
    if system == "nblb":
        return f"**{text}**"
    return text + _times(row, results.median(row.case, "nblb", row.figure), found.median)


def _times(row: Row, ours: float | None, theirs: float) -> str:
    if not ours or not theirs:
        return ""
    times = theirs / ours if row.less else ours / theirs
    return f" ({times:,.2g}×)" if times < 10 else f" ({times:,.0f}×)"


def heading(results: Results) -> str:
    """The heading: date, machine, load, and the versions of the systems."""
    machine = results.machine
    load = f"load {machine['load'][0]:g} when it began, {(results.load_at_end or machine['load'])[0]:g} when it ended"
    what = [f"{SYSTEMS[name].title} {version}".strip() for name, version in results.versions.items() if version]
    size = "" if results.size == "full" else f" Size {results.size}: these figures are a trial of the suite only."
    return (
        f"{results.when}, {machine['cores']} cores ({machine['processor']}), {machine['memory_GiB']} GiB, "
        f"{machine['system']}, Python {machine['python']}, 2 workers, {load}. {', '.join(what)}.{size}"
    )


def detail(results: Results, case: str) -> str:
    """The table of a case: for each figure median [least - most], and the number of runs."""
    of_systems = {name: results.figures.get(f"{case}/{name}", []) for name in results.versions}
    figures = list(dict.fromkeys(figure for runs in of_systems.values() for run in runs for figure in run))
    lines = [f"**{case}**", "", "| system | " + " | ".join([*figures, "runs"]) + " |"]
    lines.append("|---" + "|---:" * (len(figures) + 1) + "|")
    for name, runs in of_systems.items():
        if not runs:
            lines.append(f"| {SYSTEMS[name].title} | {results.word(case, name)} |" + " |" * len(figures))
            continue
        cells = []
        for figure in figures:
            found = results.summary(case, name, figure)
            cells.append(
                "" if found is None else f"{_number(found.median)} [{_number(found.least)} - {_number(found.most)}]"
            )
        lines.append(f"| {SYSTEMS[name].title} | " + " | ".join([*cells, str(len(runs))]) + " |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def goals(results: Results) -> str:
    """The table of goals, as ratios within this run."""
    lines = ["| goal | measured | |", "|---|---|---|"]
    for goal in GOALS:
        measured, met = goal.judge(results)
        lines.append(f"| {goal.text} | {measured} | {met} |")
    return "\n".join(lines)


def markdown(results: Results) -> str:
    """All tables in Markdown."""
    listed = [case for case in CASES if case in results.cases]
    cut = f"\n\n{results.cut_short} runs were left out: the time was over." if results.cut_short else ""
    hows = [f"- {SYSTEMS[name].title}: {SYSTEMS[name].how}" for name in results.versions]
    parts = [
        heading(results) + cut,
        short(results),
        "### Goals",
        goals(results),
        "### How each is set up",
        "\n".join(hows),
    ]
    return "\n\n".join([*parts, "### Every figure", *(detail(results, case) for case in listed)])


def into_readme(path: Path, results: Results) -> None:
    """Write the short table between its marks in README.md."""
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{path} has no place for the table: the lines {BEGIN!r} and {END!r}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    path.write_text(f"{before}{BEGIN}\n{short(results)}\n\n{heading(results)}\n{END}{after}", encoding="utf-8")
