"""The account, the cores and the processes of this computer: one function for each question about them.

A process number is given again to another process after its own has ended. Where it is known when a process began
(`began`, in the kernel's ticks), the number together with that time identifies the process.
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
    """The name of the account that runs this process: the name under which the cluster counts its tasks."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return f"uid-{os.getuid()}"


def cores() -> int:
    """The number of cores that this process may use, which a container or a batch job may have reduced."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def is_alive(pid: int, began_at: int = 0) -> bool:
    """True if a process of this number runs here; False for a zombie, which has ended and was not waited for.

    A process of another account, which this one may not signal, is alive too: the number alone does not tell whose
    process was meant.

    Parameters
    ----------
    pid
        The number of the process.
    began_at
        What `began(pid)` was while the process that is meant was known to run; 0 where that is not known. A process
        of the same number that began at another time is another process, so the one that is meant has ended.
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
    """The time at which a process began, in the kernel's ticks; 0 for a zombie; None where that is not told (macOS)."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0 if state in (b"Z", b"X") else int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


@cache
def boot_mark() -> str:
    """Eight digits that name this boot of this computer or container: process numbers are comparable only within it."""
    words = [socket.gethostname()]
    try:
        words += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    except OSError:
        pass  # not Linux: the computer's name must do
    return hashlib.blake2b("\n".join(words).encode(), digest_size=4).hexdigest()


@cache
def numpy_version() -> str:
    """The version of the NumPy that this process imports, or would import; "" where there is none."""
    loaded = sys.modules.get("numpy")
    if loaded is not None:
        return str(getattr(loaded, "__version__", ""))
    try:
        return metadata.version("numpy")
    except Exception:  # not installed, or its metadata are damaged
        return ""
