"""The live line of a wait in a terminal, drawn by tqdm."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from nblb.client.snapshots import JobSnapshot, TaskSnapshot

FORMAT = "{desc}: {percentage:3.0f}%|{bar}| "
SHOWN = ("RUNNING", "QUEUED", "FAILED", "LOST", "CANCELLED")


class _Bar(tqdm):  # type: ignore[misc]
    monitor_interval = 0  # no thread of its own: the wait itself draws


class ProgressLine:
    """One line that is redrawn in place; `close` removes it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None

    def draw(self, snapshot: JobSnapshot | TaskSnapshot) -> None:
        """Draws the state of a job, group or task."""
        percent, said = _said(snapshot)
        if self._bar is None:
            columns, lines = shutil.get_terminal_size()  # 80 and 24 for a terminal that reports 0
            self._bar = _Bar(
                total=100,
                desc=snapshot.name,
                file=self._stream,
                leave=False,
                ncols=columns,
                nrows=lines,
                bar_format=FORMAT,
            )
        self._bar.ncols = shutil.get_terminal_size().columns
        self._bar.n = percent
        self._bar.bar_format = FORMAT + said.replace("{", "{{").replace("}", "}}")
        self._bar.refresh()

    def close(self) -> None:
        """Removes the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _said(snapshot: JobSnapshot | TaskSnapshot) -> tuple[float, str]:
    """The percentage, and the text after the bar: '86 of 200, 3 running, 2 failed, 00:25 left'."""
    counts: dict[str, int] | None = getattr(snapshot, "counts", None)
    if counts is None:
        task: TaskSnapshot = snapshot  # type: ignore[assignment]
        words = [task.state.lower(), task.note or task.waiting]
        return task.progress, ", ".join(filter(None, words))
    job: JobSnapshot = snapshot  # type: ignore[assignment]
    ended = sum(number for state, number in counts.items() if state in ("DONE", "FAILED", "LOST", "CANCELLED"))
    words = [f"{ended:,} of {job.total:,}"]
    if not job.connected:
        return job.done_percent, ", ".join([*words, "the core is away"])
    words += [f"{counts[state]:,} {state.lower()}" for state in SHOWN if counts.get(state)]
    if job.eta_s is not None:
        words.append(f"{_clock(sum(job.eta_s) / 2)} left")
    if job.waiting:
        words.append(job.waiting)
    return job.done_percent, ", ".join(words)


def _clock(seconds: float) -> str:
    text: str = tqdm.format_interval(seconds)
    return text
