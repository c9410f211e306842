"""A report of a job, or of a time, as one HTML file that needs nothing else: for a paper's appendix, or a mail."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nblb.errors import UnknownTask
from nblb.monitoring import rows
from nblb.monitoring.pages.jobs import WORDS
from nblb.monitoring.wording import CSS

Asked = Callable[[str, dict[str, Any]], Any]
WIDTH, HEIGHT = 900, 160
CELLS = 300
MOST_JOBS = 500
COLOURS = """
:root { --ink: #1b1f24; --paper: #fff; --soft: #f4f6f8; --edge: #d3d9df; --dim: #59636e; --link: #0b5cad; --done: #0072b2;
  --run: #e69f00; --bad: #c24a00; --wait: #8a94a0; --bar: #0072b28c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14181d; --soft: #1d232a; --edge: #39424d;
  --dim: #a3adb8; --link: #7cc4ee; --done: #56b4e9; --bar: #2f6f96; } }
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 1rem auto; padding: 0 1rem; background: var(--paper); color: var(--ink); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } th { text-align: left; color: var(--dim); font-weight: 600; }
td, th { border-bottom: 1px solid var(--edge); padding: .2rem .5rem .2rem 0; vertical-align: top; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; } .table { overflow-x: auto; }
"""  # noqa: E501


def job_report(ask: Asked, name: str, user: str = "") -> str:
    """Return the report of a job, found by its id or name.

    Raises
    ------
    UnknownTask
        The core knows no such job.
    """
    job = ask("job", {"job": name, "name": name, "user": user})
    if job is None:
        raise UnknownTask(f"the core knows no job {name!r}; 'nblb jobs' lists those that it knows")
    identity, now = job["job"], time.time()
    n, begun = rows.job_numbers(job), float(job.get("created_at") or 0.0)
    took = (float(job.get("ended_at") or 0.0) or now) - begun
    strip = ask("strip", {"job": identity, "cells": CELLS})
    spans = [span for span in ask("timeline", {"seconds": 7 * 86400})["rows"] if span.get("job") == identity]
    bad = ask("page", {"job": identity, "state": "BAD", "limit": 100})["rows"]
    facts = [
        ("State", rows.job_state(job)), ("Task", job.get("task_name")), ("User", job.get("user")),
        ("From", job.get("origin")),
        ("Began", rows.moment(begun)), ("Took", rows.duration_cell(took)), ("Calls", rows.count(n["items"])),
        ("Done", rows.count(n["done"])), ("Failed", rows.count(n["failed"])), ("Cancelled", rows.count(n["other"])),
        ("Code", str(job.get("code") or "")[:16]),
    ]  # fmt: skip
    parts = [
        _facts(facts),
        f"<h2>Items</h2>{_strip(strip)}",
        f"<h2>Where it ran</h2>{_by_worker(spans)}" if spans else "",
        "<h2>Failures</h2>",
        _table(
            ("Error", "Where", "Calls", "First", "Items"),
            map(_texts, rows.failures(ask("failures", {"job": identity}))),
        ),
        "<h2>Failed calls</h2>" if bad else "",
        _table(rows.TASKS, map(_texts, rows.tasks(bad))) if bad else "",
    ]
    return _page(f"Job {job.get('name')}", parts)


def time_report(ask: Asked, seconds: float) -> str:
    """Return the report of the last `seconds`, at most a week: throughput, users, jobs, task names."""
    now, history = time.time(), ask("history", {"seconds": seconds})
    status = ask("status", {})
    jobs = [job for job in ask("jobs", {"limit": MOST_JOBS}) if float(job.get("created_at") or 0.0) >= now - seconds]
    used: dict[str, float] = {}
    for each in history["bins"]:
        for user, spent in each["used_s"].items():
            used[user] = used.get(user, 0.0) + spent
    whole = sum(used.values()) or 1.0
    people = [
        (user, rows.duration_cell(spent), f"{100 * spent / whole:.0f} %")
        for user, spent in sorted(used.items(), key=lambda p: -p[1])
    ]
    facts = [
        ("Cluster", f"{status.get('name')} on {status.get('host')}"),
        ("From", rows.moment(now - seconds)), ("To", rows.moment(now)),
        ("Ended", rows.count(sum(each["done"] for each in history["bins"]))),
        ("Failed", rows.count(sum(each["failed"] for each in history["bins"]))),
        ("Worker time", rows.duration_cell(sum(used.values()))),
    ]  # fmt: skip
    parts = [
        _facts(facts),
        f"<h2>Ended calls a second</h2>{_chart(history, 'done_per_s', '#009E73', now, seconds)}",
        f"<h2>Queue</h2>{_chart(history, 'queued', '#56B4E9', now, seconds)}",
        f"<h2>Busy workers</h2>{_chart(history, 'busy', '#E69F00', now, seconds)}",
        "<h2>Users</h2>",
        _table(("User", "Worker time", "Share"), people),
        f"<h2>Jobs</h2>{_table(rows.JOBS, map(_texts, rows.jobs(jobs, now)))}",
        "<h2>Task names, since the core's folder exists</h2>",
        _table(rows.STATISTICS, map(_texts, rows.statistics(ask("stats", {}), ask("percentiles", {})))),
    ]
    return _page(f"Cluster {status.get('name')}", parts)


def _page(title: str, parts: Sequence[str]) -> str:
    made = time.strftime("%Y-%m-%d %H:%M:%S")
    name = html.escape(title)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{COLOURS}{CSS}</style></head><body><h1>{name}</h1>"
        f'<p class="line">made by nblb report on {made}</p>{"".join(parts)}</body></html>\n'
    )


def _facts(pairs: Iterable[tuple[str, Any]]) -> str:
    cells = "".join(f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in pairs if value)
    return f'<dl class="pairs">{cells}</dl>'


def _table(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in line) + "</tr>" for line in lines)
    if not body:
        return '<p class="empty">none</p>'
    return f'<div class="table"><table><tr>{"".join(f"<th>{name}</th>" for name in columns)}</tr>{body}</table></div>'


def _texts(row: Sequence[Any]) -> list[Any]:
    """Return the cells of a row without their links, which lead nowhere from a file."""
    return [cell[0] if isinstance(cell, tuple) else cell for cell in row]


def _strip(letters: str) -> str:
    cells = "".join(f'<i class="s{letter if letter != "." else "n"}"></i>' for letter in letters)
    there = [letter for letter in WORDS if letter in letters]
    legend = " ".join(f'<span><i class="s{x if x != "." else "n"}"></i> {WORDS[x]}</span>' for x in there)
    label = ", ".join(f"{letters.count(x)} cells {WORDS[x]}" for x in there)
    return f'<div class="strip" role="img" aria-label="{label}">{cells}</div><p class="line legend">{legend}</p>'


def _by_worker(spans: Sequence[Mapping[str, Any]]) -> str:
    sums: dict[tuple[str, str], list[float]] = {}
    for span in spans:
        entry = sums.setdefault((str(span["host"]), str(span["worker"])), [0.0, 0.0])
        entry[0] += int(span["items"])
        entry[1] += float(span["seconds"])
    lines = [
        (host, worker, f"{calls:,.0f}", rows.duration_cell(spent))
        for (host, worker), (calls, spent) in sorted(sums.items())
    ]
    return _table(("Host", "Worker", "Calls", "Time"), lines)


def _chart(history: Mapping[str, Any], key: str, colour: str, now: float, seconds: float) -> str:
    """A chart of the history as SVG; the line is broken where there is no history."""
    bins, width_s = history["bins"], float(history["width_s"])
    highest = max((float(each[key]) for each in bins), default=0.0) or 1.0
    paths, before = [], None
    for each in bins:
        x = WIDTH * (float(each["at"]) + width_s / 2 - (now - seconds)) / seconds
        y = HEIGHT - (HEIGHT - 14) * float(each[key]) / highest
        follows = before is not None and float(each["at"]) - before <= 1.6 * width_s
        paths.append(f"{'L' if follows else 'M'}{x:.1f} {y:.1f}")
        before = float(each["at"])
    line = " ".join(paths) or "M0 0"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 18}" role="img" aria-label="at most {highest:,.2f}">'
        f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}" stroke="currentColor" stroke-opacity=".4"/>'
        f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        f'<text x="2" y="11" font-size="11" fill="currentColor">{highest:,.2f}</text>'
        f'<text x="2" y="{HEIGHT + 13}" font-size="11" fill="currentColor">{rows.moment(now - seconds)}</text>'
        f'<text x="{WIDTH - 2}" y="{HEIGHT + 13}" font-size="11" text-anchor="end" fill="currentColor">'
        f"{rows.moment(now)}</text></svg>"
    )
