"""The history of a core in coarse bins: an hour in steps of 10 s, a day in minutes, a week in steps of 10 minutes.

A bin has means (queued and running calls, workers, busy workers, CPU) and sums (ended calls, worker time by user). A
time without a core has no bins. The history is in one small file in the state folder, written once a minute and at the
end; without it, or with a damaged one, a core begins a new history.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nblb.scheduling.reporting.calls import in_flight
from nblb.scheduling.reporting.observations import Histogram

if TYPE_CHECKING:
    from nblb.scheduling.state import State

EVERY_S = 10.0
SAVE_S = 60.0
LEVELS = ((10.0, 360), (60.0, 1440), (600.0, 1008))  # (seconds of a bin, bins)
MOST_USERS = 20  # of a bin
FILE = "history.msgpack"


class Bin(msgspec.Struct, array_like=True):
    """The sums of some samples; `at` is the start of the bin by the wall clock."""

    at: float
    samples: int = 0
    queued: float = 0.0
    running: float = 0.0
    workers: float = 0.0
    busy: float = 0.0
    load: float = 0.0
    done: int = 0
    failed: int = 0
    used_s: dict[str, float] = {}
    commit_s: float = 0.0
    commits: int = 0

    def add(self, other: Bin) -> None:
        """Add the samples of a shorter time."""
        self.samples += other.samples
        self.queued += other.queued
        self.running += other.running
        self.workers += other.workers
        self.busy += other.busy
        self.load += other.load
        self.done += other.done
        self.failed += other.failed
        self.commit_s += other.commit_s
        self.commits += other.commits
        for user, seconds in other.used_s.items():
            if user in self.used_s or len(self.used_s) < MOST_USERS:
                self.used_s[user] = self.used_s.get(user, 0.0) + seconds


class _Saved(msgspec.Struct):
    version: int
    levels: list[list[Bin]]
    run: dict[str, dict[int, int]]
    wait: dict[str, dict[int, int]]


class UsageHistory:
    """The bins of a core, fed with a sample of its state every EVERY_S; `folder` None keeps nothing on disk."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder is not None else None
        self._levels: list[deque[Bin]] = [deque(maxlen=bins) for _, bins in LEVELS]
        self._due_at = self._save_at = 0.0
        self._before: tuple[int, int, dict[str, float], float, int] | None = None

    # ── samples ──

    def deadline(self) -> float:
        """Return the time of the next sample, by the core's clock."""
        return self._due_at

    def sample(self, state: State, now: float, commits: int = 0, commit_s: float = 0.0) -> None:
        """Take a sample if one is due, and write the file from time to time."""
        if now < self._due_at:
            return
        self._due_at = now + EVERY_S
        sample = self._sample(state, now, commits, commit_s)
        for (width_s, _), bins in zip(LEVELS, self._levels, strict=True):
            at = sample.at - sample.at % width_s
            if not bins or bins[-1].at != at:
                bins.append(Bin(at))
            bins[-1].add(sample)
        if now >= self._save_at:
            if self._save_at:
                self.save(state)
            self._save_at = now + SAVE_S

    def _sample(self, state: State, now: float, commits: int, commit_s: float) -> Bin:
        queued = sum(user.waiting for user in state.share.users.values())
        running = 0
        for each in in_flight(state):
            queued, running = queued + each.waiting, running + each.running
        hubs = list(state.hubs.values())
        done = sum(user.done for user in state.share.users.values())
        failed = sum(user.failed for user in state.share.users.values())
        used = {user.name: user.used_s for user in state.share.users.values()}
        before = self._before or (done, failed, used, commit_s, commits)  # the first sample only begins the counts
        self._before = done, failed, used, commit_s, commits
        spent = {name: now_s - before[2].get(name, 0.0) for name, now_s in used.items()}
        most = sorted((name for name in spent if spent[name] > 0.0), key=lambda name: -spent[name])[:MOST_USERS]
        return Bin(
            at=state.wall(now),
            samples=1,
            queued=queued,
            running=running,
            workers=sum(hub.slots for hub in hubs),
            busy=sum(min(group.given, group.alive) for hub in hubs for group in hub.groups),
            load=sum(hub.load for hub in hubs) / len(hubs) if hubs else 0.0,
            done=max(0, done - before[0]),
            failed=max(0, failed - before[1]),
            used_s={name: round(spent[name], 3) for name in most},
            commit_s=max(0.0, commit_s - before[3]),
            commits=max(0, commits - before[4]),
        )

    # ── answers ──

    def answer(self, about: dict[str, Any], now_wall: float) -> dict[str, Any]:
        """Return the bins of the last `seconds` (an hour), in the finest step that reaches back so far."""
        seconds = min(max(float(about.get("seconds") or 3600.0), LEVELS[0][0]), 7 * 86400.0)
        level = next((n for n, (width, most) in enumerate(LEVELS) if width * most >= seconds), len(LEVELS) - 1)
        width_s, bins = LEVELS[level][0], self._levels[level]
        rows = [_row(each, width_s) for each in bins if each.at >= now_wall - seconds - width_s]
        return {"now": now_wall, "seconds": seconds, "width_s": width_s, "bins": rows}

    # ── the file ──

    def load(self, state: State) -> None:
        """Read the file of an earlier core; a damaged one is ignored."""
        if self._path is None:
            return
        try:
            saved = msgspec.msgpack.decode(self._path.read_bytes(), type=_Saved)
        except (OSError, msgspec.MsgspecError):
            return
        for bins, kept in zip(self._levels, saved.levels, strict=False):
            bins.extend(kept)
        for name, buckets in saved.run.items():
            state.observations.run[name] = Histogram(buckets)
            state.observations.wait[name] = Histogram(saved.wait.get(name))

    def save(self, state: State) -> None:
        """Write the file; a full disk costs the history, not the core."""
        if self._path is None:
            return
        seen = state.observations
        saved = _Saved(
            1,
            [list(bins) for bins in self._levels],
            {name: histogram.buckets for name, histogram in seen.run.items()},
            {name: histogram.buckets for name, histogram in seen.wait.items()},
        )
        rough = self._path.with_suffix(".tmp")
        with contextlib.suppress(OSError):
            with open(os.open(rough, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.msgpack.encode(saved))
            rough.replace(self._path)


def _row(each: Bin, width_s: float) -> dict[str, Any]:
    """Return a bin for people: means of what is a level, sums of what is counted."""
    samples = max(1, each.samples)
    seconds = min(width_s, samples * EVERY_S)
    return {
        "at": each.at,
        "queued": each.queued / samples,
        "running": each.running / samples,
        "workers": each.workers / samples,
        "busy": each.busy / samples,
        "load": each.load / samples,
        "done": each.done,
        "failed": each.failed,
        "done_per_s": each.done / seconds,
        "failed_per_s": each.failed / seconds,
        "used_s": each.used_s,
        "commit_ms": 1000.0 * each.commit_s / each.commits if each.commits else 0.0,
    }
