"""Finds out why a worker died, and describes it in a sentence that helps the task's owner."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from nblb import cgroup
from nblb.hub.pool.memory_watch import Trail
from nblb.quantities import size

LAST_CHARACTERS = 500
OWN_FRAMES = "nblb/worker/"
STACKS = (
    "Fatal Python error",
    "Stack (most recent call first)",
)  # first lines of faulthandler's output, after a crash and on request
SUSPICIOUS = 0.5  # of the memory limit: if a killed worker used more, memory is the likely reason


class OutOfMemoryWatch:
    """Detects kills by the kernel's out-of-memory killer from its counters, read only when a worker has died."""

    def __init__(self) -> None:
        own = next(cgroup.files("memory", "memory.events", "memory.oom_control"), None)  # counts groups below, too
        self._files = [Path("/proc/vmstat"), *([own] if own is not None else [])]
        self._seen = self._count()

    def has_struck(self) -> bool:
        """Return True once for each rise of the kernel's counters."""
        now = self._count()
        struck, self._seen = now > self._seen, now
        return struck

    def _count(self) -> int:
        total = 0
        for path in self._files:
            try:
                for line in path.read_text().splitlines():
                    name, _, number = line.partition(" ")
                    if name == "oom_kill":
                        total += int(number)
            except (OSError, ValueError):
                continue
        return total


def memory_limit_mb() -> float:
    """Return the memory limit of this machine, or of this process's cgroup if that is lower."""
    limits = [cgroup.memory_bytes()]
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (OSError, ValueError):
        pass
    return min(limits) / 2**20


def sentence(
    status: int, peak_kib: int, killed_why: str, struck: bool, last_output: str, trail: Trail | None, now: float
) -> str:
    """Describe the status from wait(2), with the likely reason, the worker's memory and its last output."""
    limit_mb = memory_limit_mb()
    used = f"{size(peak_kib * 1024)} of {size(limit_mb * 2**20)}"
    if trail is not None:
        used += f", after {trail.after_s(now):.0f} s"
    for_memory = killed_why.startswith("killed for memory")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        words = f"killed by signal {number} ({_name(number)})"
        if killed_why:
            words = killed_why if for_memory else f"killed by its hub: {killed_why}"
        elif number == signal.SIGKILL and struck:
            words, for_memory = f"killed by the kernel for memory: {used}", True
        elif number == signal.SIGKILL and peak_kib / 1024 > SUSPICIOUS * limit_mb:
            words, for_memory = f"{words}, perhaps for memory: {used}", True
        elif number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
            words += ": a crash in compiled code"
    else:
        words = f"exit code {os.WEXITSTATUS(status)} (os._exit?)"
    if for_memory and trail is not None and trail.points:
        words += f"; its memory was {trail}"
    said = output_tail(last_output)
    return f"{words}; its last output: {said}" if said else words


def is_for_memory(reason: str) -> bool:
    """Return whether a sentence about a death names memory as the cause, or as the likely one."""
    beginning = reason.removeprefix("it could not start: ")[:200].partition("; its last output")[0]
    return any(words in beginning for words in ("killed for memory", "by the kernel for memory", "perhaps for memory"))


def has_whole_stack(output: str) -> bool:
    """Return whether the output ends with a stack in which the frames of the task are complete."""
    at = max(output.rfind(word) for word in STACKS)
    return at >= 0 and OWN_FRAMES in output[at:]


def output_tail(output: str) -> str:
    """Return the end of the output; of a stack, only the lines of the task, not of its worker."""
    at = max(output.rfind(word) for word in STACKS)
    if at < 0:
        return output.strip()[-LAST_CHARACTERS:]
    fatal = output.rfind(STACKS[0])
    lines = output[fatal if fatal >= 0 else at :].splitlines()
    own = next((n for n, line in enumerate(lines) if OWN_FRAMES in line), len(lines))
    return "\n".join(lines[:own]).strip()[:LAST_CHARACTERS]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
