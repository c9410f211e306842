"""Other troubles than kills: files that a cleaner removes, disks that fill up, descriptors that run out, and processes
that stand still for longer than a lease."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import time
from pathlib import Path

import psutil

from tests.chaos.rig import Rig

KINDS = ("runtime files", "full disk", "descriptors", "core stops", "hub stops")
LEASE_S = 3.0  # of the cluster, so that a stop can be longer
DISK_MB = 1200  # of the file system that is filled, if this account may mount one; results are kept until the end …
A_STRIKE_MB = 15  # … and so much more for each strike
FEW = 3  # descriptors that are left


class TroubledRig(Rig):
    """A rig whose strikes are kills and troubles in equal parts."""

    def strike(self) -> None:
        """Kill something or make some other trouble, a random moment from now."""
        if self.chance.random() < 0.5:
            super().strike()
            return
        time.sleep(self.chance.uniform(0.02, 0.8))
        self.trouble(self.chance.choice(KINDS))

    def trouble(self, kind: str) -> None:
        """Make this trouble, and end it."""
        self.kills[kind] += 1
        if kind == "runtime files":
            remove_all(self.parameters.runtime_dir)
            time.sleep(self.chance.uniform(0.1, 3.0))  # they come back within two seconds, or the start copes without
        elif kind == "full disk":
            self._fill()
        elif kind == "descriptors":
            self._few_descriptors()
        else:
            self._stop(kind.partition(" ")[0], LEASE_S * self.chance.uniform(0.5, 1.6))
        self.start()
        self.start_clients()

    def _fill(self) -> None:
        state = self.parameters.state_dir
        if not os.path.ismount(state.parent):
            return  # not the disk of others
        filler = state.parent / "filler"
        try:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(256 * 1024))
            time.sleep(self.chance.uniform(0.2, 2.0))
        finally:
            filler.unlink()

    def _few_descriptors(self) -> None:
        limits: list[tuple[psutil.Process, tuple[int, int]]] = []
        for role in ("core", "hub"):
            for pid in self.pids(role):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    limits.append((process, process.rlimit(psutil.RLIMIT_NOFILE)))
                    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + FEW, limits[-1][1][1]))
        time.sleep(self.chance.uniform(0.2, 1.5))
        for process, limit in limits:
            with contextlib.suppress(psutil.Error):
                process.rlimit(psutil.RLIMIT_NOFILE, limit)

    def _stop(self, role: str, seconds: float) -> None:
        stopped = self.pids(role)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(seconds)


def remove_all(folder: Path) -> None:
    """Remove a folder that processes may still fill."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
