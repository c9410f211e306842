"""Explanations of what limits a figure, in plain words; pure functions of the measurements."""

from __future__ import annotations

from nblb.bench.meters import PARTS, Usage
from nblb.bench.report import BenchReport, Measured

BUSY = 0.8  # share of the time from which a computing process is the bottleneck
DISK = 0.35  # share of the time in commits
CROWDED = 0.2  # share of the time waiting for a processor
SLOW_COMMIT_US = 2_000.0
USEFUL = 20.0  # a task should take this many times its overhead: 5 % are lost then
PORTION_MS = 20.0  # work in a chunk from which its overhead is negligible
WHO = {
    "client": "this process (the client)",
    "core": "the core",
    "hub": "the hub",
    "workers": "a worker",
}


def explain(measured: Measured, best: dict[str, float], cores: int) -> str:
    """Explains one case in a sentence."""
    usage = measured.usage
    if usage is None or usage.wall_s <= 0 or measured.word:
        return ""
    if measured.case == "latency":
        return _of_a_round_trip(measured, usage, best)
    if measured.case == "imbalance":
        over = measured.figures.get("of_ideal", 1.0)
        return "nothing: workers hardly wait" if over <= 1.05 else _narrow(usage, cores, but="workers")
    sentence = _narrow(usage, cores)
    rate, copies = measured.figures.get("MiB_per_s"), best.get("copy_MiB_per_s")
    if rate and copies:
        sentence += f"; it takes as long as {copies / rate:.1f} plain copies in memory"
    return sentence


def _of_a_round_trip(measured: Measured, usage: Usage, best: dict[str, float]) -> str:
    """Lists where the time of one task is spent, in the order of the parts."""
    tasks = max(1, measured.tasks)
    each = [f"{part} {usage.cpu_s.get(part, 0.0) / tasks * 1e6:,.0f}" for part in PARTS if part in usage.cpu_s]
    text = f"of that, processor time in us: {', '.join(each)}"
    if usage.commits:
        text += f" (of the core's, {usage.commit_s / tasks * 1e6:,.0f} for commits)"
    waited = sum(usage.waited_s.values())
    if waited > CROWDED * usage.wall_s:
        text += f"; {waited / tasks * 1e6:,.0f} waiting for a processor that others had"
    middle, bare = measured.figures.get("p50_us"), best.get("round_trip_us")
    if middle and bare:
        text += f"; in all {middle / bare:.1f} bare ZeroMQ round trips"
    return text


def _narrow(usage: Usage, cores: int, but: str = "") -> str:
    """Names the bottleneck, or says that there is none."""
    wall = usage.wall_s
    share = {part: usage.busiest_s.get(part, 0.0) / wall for part in PARTS if part != but}
    narrow = max(share, key=lambda part: share[part])
    if usage.commit_s / wall >= DISK:
        each_us = usage.commit_s / max(1, usage.commits) * 1e6
        return f"the journal: {usage.commit_s / wall:.0%} of the time in {usage.commits:,} commits of {each_us:,.0f} us"
    shares = ", ".join(f"{part} {share[part]:.0%}" for part in share)
    if share[narrow] >= BUSY:
        return f"{WHO[narrow]}, which computes all the time ({shares})"
    used = sum(usage.cpu_s.values()) / wall
    if used >= 0.85 * cores:
        return f"the {cores} cores of this machine, which are all busy ({shares})"
    waits = max(usage.waited_s, key=lambda part: usage.waited_s[part], default="core")
    waited = min(1.0, usage.waited_s.get(waits, 0.0) / wall)  # summed over its threads, so it can exceed the wall time
    if waited >= CROWDED:
        return f"the {cores} cores of this machine: {WHO[waits]} waits {waited:.0%} of the time for one ({shares})"
    return f"no single part: {WHO[narrow]} computes most ({shares}), the rest is time spent waiting for each other"


def advise(report: BenchReport, state_dir: str = "") -> list[str]:
    """Returns advice for the user."""
    said = []
    load, cores = report.machine["load"][0], report.machine["cores"]
    if load > 0.75 * cores:
        said.append(
            f"This machine was busy with other things (load {load:g} on {cores} cores): the figures would be better "
            "on a quiet one."
        )
    said += _on_small_tasks(report)
    commit_us = _commit_us(report)
    if commit_us > SLOW_COMMIT_US:
        where = f" (it is {state_dir} now)" if state_dir else ""
        said.append(
            f"The disk takes {commit_us / 1000:,.1f} ms a commit: name a folder on a local disk with "
            f"LB_STATE_DIR{where}."
        )
    return said


def _commit_us(report: BenchReport) -> float:
    """The time of a commit: the core's own during single tasks, else the trial commit's."""
    for each in report.cases:
        if each.case == "latency" and each.usage is not None and each.usage.commits:
            return each.usage.commit_s / each.usage.commits * 1e6
    return report.best.get("commit_us", 0.0)


def _on_small_tasks(report: BenchReport) -> list[str]:
    """The length from which single tasks, items and chunks are worth their overhead."""
    alone, item = report.figure("submit", "tasks_per_s"), report.figure("map_default", "items_per_s")
    chunked = report.figure("map_chunked", "items_per_s")
    if not alone:
        return []
    alone_us = 1e6 / alone
    said = f"A single task costs {alone_us:,.0f} us of overhead, so submit what takes {_ms(alone_us * USEFUL)} or more"
    if item:
        said += f"; an item of a map costs {1e6 / item:,.1f} us ({_ms(1e6 / item * USEFUL)} or more)"
    if item and chunked and chunked > 1.5 * item:
        short_us = max(1.0, 1e6 / item)
        said += (
            f"; items of {short_us:,.0f} us are mostly overhead even then: give chunksize={_round(short_us)}, which is "
            f"{PORTION_MS:.0f} ms of work a chunk"
        )
    return [said + "."]


def _round(item_us: float) -> str:
    """The number of items in a chunk, rounded to two digits."""
    number = PORTION_MS * 1000 / item_us
    digits = max(0, len(str(int(number))) - 2)
    return str(int(round(number, -digits)))


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:,.1f} ms" if microseconds >= 100 else f"{microseconds:,.0f} us"
