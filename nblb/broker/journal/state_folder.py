"""The folder for data that must survive a core: its lock, and the check of its file system."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from nblb.errors import JournalError, JournalLocked

NETWORK_FILE_SYSTEMS = frozenset(
    """9p afs beegfs ceph cifs fuse.glusterfs fuse.sshfs glusterfs gpfs lustre nfs nfs4 orangefs smb2 smb3 smbfs
    """.split()  # noqa: SIM905  a list of words reads better in one line
)


TRIES, AGAIN_S = 10, 0.01


class StateFolder:
    """The state folder, locked by this process until `close`.

    Raises
    ------
    JournalLocked
        Another core uses it; the message names its process.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(
                f"The state folder {path} cannot be used: {error.strerror or error}; name another with LB_STATE_DIR."
            ) from None
        if not self._take():
            holder = os.read(self._lock, 200).decode("utf-8", "replace").strip() or "another process"
            os.close(self._lock)
            raise JournalLocked(
                f"The state folder {path} is in use by {holder}; stop that core, or name another folder "
                "with LB_STATE_DIR."
            )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"the core {name!r} (pid {os.getpid()})\n".encode(), 0)

    def _take(self) -> bool:
        """Lock the folder; try again for a moment, since a mere check (system/core_file.py) locks it briefly, too."""
        for _ in range(TRIES):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(AGAIN_S)
            else:
                return True
        return False

    def close(self) -> None:
        """Release the folder."""
        if self._lock >= 0:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = -1


def network_file_system(path: Path) -> str:
    """Return the kind of network file system that `path` is on, or "" for a local disk."""
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
    return kind if kind in NETWORK_FILE_SYSTEMS else ""
