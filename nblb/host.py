"""The account, the cores, processes and disks of this computer: one function for each question about them.

The system reuses the pid of an ended process. A pid together with the process's start time (`began`, in the kernel's
ticks) identifies a process.
"""

from __future__ import annotations

import getpass
import hashlib
import math
import os
import socket
import stat
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from nblb import cgroup

#: Variable that says that this is a job -> variable with its cores here: Slurm, PBS, LSF, Grid Engine
JOBS = {
    "SLURM_JOB_ID": "SLURM_CPUS_ON_NODE",
    "PBS_JOBID": "NCPUS",
    "LSB_JOBID": "LSB_DJOB_NUMPROC",
    "SGE_TASK_ID": "NSLOTS",
}
NETWORK_FILE_SYSTEMS = frozenset(
    """9p afs beegfs ceph cifs fuse.glusterfs fuse.sshfs glusterfs gpfs lustre nfs nfs4 orangefs smb2 smb3 smbfs
    """.split()  # noqa: SIM905  a list of words reads better in one line
)


def account() -> str:
    """Return the name of the account that runs this process, under which the cluster counts its tasks."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return f"uid-{os.getuid()}"


def cores() -> int:
    """Return the number of cores that this process may use, which a container or a batch job may have reduced.

    A quota of 1.5 cores counts as 2.
    """
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        usable = os.cpu_count() or 1
    usable = min(usable, _cores_of_job() or usable)
    quota = cgroup.cores()
    return min(usable, max(1, math.ceil(quota))) if quota < usable else usable


def _cores_of_job() -> int:
    """Return how many cores of this computer a batch system has given to this job; 0 outside one, or if unknown.

    Many batch systems do not bind a job to its cores, so its affinity would be the whole computer.
    """
    for job, number in JOBS.items():
        if os.environ.get(job):
            given = os.environ.get(number, "").strip()
            if given.isdecimal() and int(given) > 0:
                return int(given)
    return 0


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
def pid_space() -> str:
    """Return a name of the space in which pids are valid here: this boot of the computer, or this container."""
    try:
        words = [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    except OSError:
        return socket.gethostname()  # not Linux
    return hashlib.blake2b("\n".join(words).encode(), digest_size=8).hexdigest()


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


def network_file_system(path: Path) -> str:
    """Return the kind of network file system that `path` is on, or "" for a local disk."""
    kind = _file_system(path)
    return kind if kind in NETWORK_FILE_SYSTEMS else ""


def _file_system(path: Path) -> str:
    """Return the kind of file system that `path` is on, or will be on; "" if that is unknown."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""  # not Linux: no warning
    best, kind = -1, ""
    real = str(path.resolve())
    for line in mounts:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), fields[2]
    return kind


# ── places for sockets ──────────────────────────────────────────────────────────────────────────────────────

LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
LONGEST_SOCKET_NAME = len("hub-00000000-4194304-00000000.health")
SOCKETLESS = frozenset("drvfs exfat fuseblk hfsplus msdos ntfs ntfs3 vfat virtiofs".split())  # noqa: SIM905
BESIDE = ".nblb-"  # the prefix of a folder of sockets beside a state folder
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # of which a private subfolder is used


def socket_folder(state_dir: Path, name: str) -> Path:
    """Return the folder for the sockets of the cluster of this name and state folder.

    It follows from the state folder alone, so that processes with different environments find each other: a folder
    beside it, so that programs that copy the state folder meet no sockets; a subfolder, where none can be made beside
    it; or where a socket cannot be made there, a short private folder elsewhere.
    """
    real = Path(os.path.realpath(state_dir))
    mark = hashlib.blake2b(os.fsencode(real) + b"/" + name.encode(), digest_size=3).hexdigest()
    beside = real.parent / f"{BESIDE}{mark}"
    if not why_no_sockets(beside):
        can_be_made = not real.parent.exists() or _is_private(beside)
        return beside if can_be_made else real / f"run-{mark}"
    return short_folder() / f"{name[:24]}-{hashlib.blake2b(os.fsencode(real), digest_size=4).hexdigest()}"


def why_no_sockets(folder: Path) -> str:
    """Return a clause on why sockets cannot be made in this folder; "" if they can."""
    try:
        longest = len(str(folder).encode()) + 1 + LONGEST_SOCKET_NAME
    except UnicodeEncodeError:
        return "its path is not text"
    if longest > LONGEST_SOCKET_PATH:
        return f"its path is too long for sockets, whose paths may have {LONGEST_SOCKET_PATH} bytes"
    kind = _file_system(folder)
    return f"its file system ({kind}) may have no sockets" if kind in NETWORK_FILE_SYSTEMS | SOCKETLESS else ""


def short_folder() -> Path:
    """Return the first of the short folders in which this account has, or can make, a folder of its own."""
    own = [Path(base) / f"nblb-{os.getuid()}" for base in SHORT_FOLDERS]
    return next((folder for folder in own if _is_private(folder)), own[0])


def _is_private(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return os.access(folder.parent, os.W_OK | os.X_OK)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
