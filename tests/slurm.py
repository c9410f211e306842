"""A real Slurm of two nodes on this computer, for tests: see slurm.sh. Root only."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

SCRIPT = Path(__file__).with_name("slurm.sh")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel")
LOCK = Path(tempfile.gettempdir()) / "nblb-slurm.lock"  # one Slurm at a time on a computer


def missing() -> str:
    """Why there can be no Slurm here; "" if there can."""
    if os.geteuid() != 0:
        return "only root can start a Slurm"
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if absent:
        return f"{', '.join(absent)}: not installed; 'tests/slurm.sh install' installs Slurm from Debian's packages"
    return "" if address() else "this computer has no address beside loopback"


def address() -> str:
    """An address of this computer at which a core listens for other computers; "" without one."""
    for name, found in psutil.net_if_addrs().items():
        for each in found:
            if name != "lo" and each.family.name == "AF_INET" and not each.address.startswith("127."):
                return each.address
    return ""


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """Start it, and end it with all its jobs; gives the environment variables of its commands."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = Path(tempfile.mkdtemp(prefix="nblb-slurm-"))
        variables = {"NBLB_SLURM": str(folder), "PATH": PATH}
        environment = {**os.environ, **variables}
        try:
            started = subprocess.run(
                [SCRIPT, "start"],
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=120,
            )
            assert started.returncode == 0, started.stdout + started.stderr
            yield {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
        finally:
            subprocess.run(
                [SCRIPT, "stop"], env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=120
            )
            shutil.rmtree(folder, ignore_errors=True)
