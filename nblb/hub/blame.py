"""Why a worker died, in a sentence that its task's owner can use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

LAST_CHARACTERS = 500
OWN_FRAMES = "nblb/hub/"
SUSPICIOUS = 0.5  # of the machine's memory: killed with more in use than that, memory is the likely reason


class OutOfMemoryWatch:
    """Has the kernel killed for want of memory lately? Counts are read, never events, so nothing polls."""

    def __init__(self) -> None:
        self._files = _oom_files()
        self._seen = self._count()

    def has_struck(self) -> bool:
        """True once for each rise of the kernel's counts."""
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


def _oom_files() -> list[Path]:
    files = [Path("/proc/vmstat")]
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, _, path = line.split(":", 2)
            if number == "0":
                files.append(Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events")
    except (OSError, ValueError):
        pass
    return [path for path in files if path.exists()]


def sentence(status: int, peak_kib: int, killed_why: str, struck: bool, last_output: str) -> str:
    """What wait(2) said of the worker, with the likely reason and its last words."""
    peak = f"{peak_kib / 2**20:.1f} GiB" if peak_kib >= 2**20 else f"{peak_kib / 2**10:.0f} MiB"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        words = f"killed by signal {number} ({_name(number)})"
        if killed_why:
            words = f"killed by its hub: {killed_why}"
        elif number == signal.SIGKILL and struck:
            words = f"killed by the kernel for memory: it had used {peak} at most"
        elif number == signal.SIGKILL and peak_kib > SUSPICIOUS * _memory_kib():
            words += f", perhaps for memory: it had used {peak} at most"
        elif number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
            words += ": a crash in compiled code"
    else:
        code = os.WEXITSTATUS(status)
        words = f"exit code {code} (os._exit?)"
    said = last_words(last_output)
    return f"{words}; its last output: {said}" if said else words


def last_words(output: str) -> str:
    """The end of what was printed; of a crash in compiled code the lines of the task, not of its worker."""
    at = output.rfind("Fatal Python error")
    if at < 0:
        return output.strip()[-LAST_CHARACTERS:]
    lines = output[at:].splitlines()
    own = next((n for n, line in enumerate(lines) if OWN_FRAMES in line), len(lines))
    return "\n".join(lines[:own]).strip()[:LAST_CHARACTERS]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _memory_kib() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024
    except (OSError, ValueError):
        return float("inf")
