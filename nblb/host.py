"""The account, the cores and the processes of this computer: one function for each question about them.

The system reuses the pid of an ended process. A pid together with the process's start time (`began`, in the kernel's
ticks) identifies a process.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import sys
from functools import cache
from importlib import metadata
from pathlib import Path


def account() -> str:
    """Return the name of the account that runs this process, under which the cluster counts its tasks."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return f"uid-{os.getuid()}"


def cores() -> int:
    """Return the number of cores that this process may use, which a container or a batch job may have reduced."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def is_alive(pid: int, began_at: int = 0) -> bool:
    """Return True if a process with this pid runs here; False for a zombie, which has ended and was not waited for.

    A process of another account, which this one may not signal, counts as alive, too: the pid alone does not identify
    a process.

    Parameters
    ----------
    pid
        The pid of the process.
    began_at
        The value of `began(pid)` while the process was known to run; 0 if unknown. A process with the same pid and
        another start time is another process, so the first one has ended.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it exists
    now = began(pid)
    return now is None or (now > 0 and began_at in {0, now})


def began(pid: int) -> int | None:
    """Return the start time of a process in the kernel's ticks; 0 for a zombie; None if unknown (macOS)."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0 if state in (b"Z", b"X") else int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


@cache
def boot_mark() -> str:
    """Return eight digits that identify this boot of the computer or container, within which pids are valid."""
    words = [socket.gethostname()]
    try:
        words += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    except OSError:
        pass  # not Linux: use only the computer's name
    return hashlib.blake2b("\n".join(words).encode(), digest_size=4).hexdigest()


@cache
def numpy_version() -> str:
    """Return the version of the NumPy that this process imports, or would import; "" without NumPy."""
    loaded = sys.modules.get("numpy")
    if loaded is not None:
        return str(getattr(loaded, "__version__", ""))
    try:
        return metadata.version("numpy")
    except Exception:  # not installed, or its metadata are damaged
        return ""
