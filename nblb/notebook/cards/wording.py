"""Words and signs for states, durations and counts, the same in all front-ends."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from nblb.quantities import duration

LOOK: dict[str, tuple[str, str]] = {  # state -> (sign, word); in the order in which counts are shown
    "DONE": ("✓", "done"),
    "KEPT": ("◑", "stopped early"),
    "FAILED": ("✗", "failed"),
    "LOST": ("†", "lost"),
    "RUNNING": ("▶", "running"),
    "CANCELLING": ("⊘", "cancelling"),
    "CANCELLED": ("⊘", "cancelled"),
    "ASSIGNED": ("◦", "assigned"),
    "QUEUED": ("…", "queued"),
    "BLOCKED": ("⧗", "blocked"),
}
JOB_LOOK = {
    "running": ("▶", "running"),
    "waiting": ("…", "waiting"),
    "done": ("✓", "done"),
    "failed": ("✗", "failed"),
    "cancelled": ("⊘", "cancelled"),
}
ENDED = ("DONE", "FAILED", "LOST", "CANCELLED")
BAD = ("FAILED", "LOST")


def peak(megabytes: float) -> str:
    """'peak 210 MB', 'peak 3.2 GB'; '' when unknown."""
    if megabytes <= 0:
        return ""
    return f"peak {megabytes:,.0f} MB" if megabytes < 1000 else f"peak {megabytes / 1000:.1f} GB"


def moment(wall: float) -> str:
    """'2026-11-30 14:05': date and time, since a saved notebook may be read much later."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(wall))


def between(begin: float, end: float) -> str:
    """'2026-11-30 14:05', or '2026-11-30 14:05 to 16:20' if more than a minute lies between; '' when unknown."""
    if not (begin and end):
        return ""
    first, last = moment(begin), moment(max(begin, end))
    if first == last:
        return first
    day, _, hour = last.partition(" ")
    return f"{first} to {hour if first.startswith(day) else last}"


def time_left(eta_s: tuple[float, float] | None) -> str:
    """A range ('20 to 30 s left'), or one number when both ends read the same; '' when unknown."""
    if eta_s is None:
        return ""
    low, high = (duration(max(round(end), 1)) for end in eta_s)
    if low == high:
        return f"about {low} left"
    if low.partition(" ")[2] == high.partition(" ")[2]:  # the unit once
        low = low.partition(" ")[0]
    return f"{low} to {high} left"


def number(count: int, thing: str) -> str:
    """'1 hub', '3,000 workers'."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def places(hosts: Sequence[str], most: int = 3) -> str:
    """'on lab1', 'on lab1, lab2, lab3 and 9 more hosts'; '' when none is known."""
    if not hosts:
        return ""
    more = f" and {number(len(hosts) - most, 'more host')}" if len(hosts) > most else ""
    return f"on {', '.join(hosts[:most])}{more}"


def rate(per_s: float) -> str:
    """'118/s', '2.5/s', '12/min': three digits at most; '' when nothing has moved."""
    if per_s <= 0:
        return ""
    if per_s >= 1:
        return f"{per_s:,.0f}/s" if per_s >= 9.95 else f"{per_s:.1f}/s"
    return f"{per_s * 60:.0f}/min" if per_s * 60 >= 1 else f"{per_s * 3600:.0f}/h"


def ended(counts: Mapping[str, int]) -> int:
    """The number of items that have ended."""
    return sum(counts.get(state, 0) for state in ENDED)


def failed(counts: Mapping[str, int]) -> int:
    """The number of items that failed or were lost."""
    return sum(counts.get(state, 0) for state in BAD)


def progress_text(counts: Mapping[str, int], total: int, kept: int = 0) -> str:
    """'123 of 200 tasks, 6 failed': the text of a job's bar for screen readers."""
    text = f"{ended(counts):,} of {number(total, 'task')}"
    if bad := failed(counts):
        text += f", {bad:,} failed"
    if stopped := counts.get("CANCELLED", 0):
        text += f", {stopped:,} cancelled"
    if kept:
        text += f", {kept:,} stopped early"
    return text


def percent(done_percent: float, counts: Mapping[str, int], total: int) -> int:
    """A whole number for the bar: 100 exactly when all have ended, never before."""
    if ended(counts) >= total:
        return 100
    return max(0, min(99, int(done_percent)))


def count_rows(counts: Mapping[str, int], kept: int = 0) -> list[tuple[str, str, str, int]]:
    """(state, sign, word, number) of each state that has items, in the order of LOOK; `kept` are some of the DONE."""
    found = {**counts, "DONE": counts.get("DONE", 0) - kept, "KEPT": kept}
    return [(state, sign, word, found[state]) for state, (sign, word) in LOOK.items() if found.get(state)]


def clip(text: str, limit: int) -> str:
    """Shortens `text` to about `limit` characters: the middle is left out, as an error's start and end matter most."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
