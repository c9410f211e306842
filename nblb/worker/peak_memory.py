"""The peak of this process's resident memory while it runs a slice, from the kernel's own count."""

from __future__ import annotations

import os
import resource

RESET = b"5"  # what sets the peak back to the present memory (proc(5), clear_refs)
UNIT = 1024  # of ru_maxrss on Linux, in bytes


class PeakMemory:
    """The peak since `begin`; both calls take about a microsecond. Without /proc/self/clear_refs it is unknown: 0."""

    def __init__(self) -> None:
        try:
            self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            self._reset = -1

    def begin(self) -> None:
        """Start at the present memory."""
        if self._reset >= 0:
            try:
                os.write(self._reset, RESET)
            except OSError:  # a task has closed it, or the kernel lacks it
                self._reset = -1

    @property
    def nbytes(self) -> int:
        """The peak since `begin`, in bytes; 0 if it is unknown."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT if self._reset >= 0 else 0
