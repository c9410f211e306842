"""Starts a role of the cluster (core, hub, health, monitor, ssh) as a detached process.

Detached means: its own session, no terminal, no inherited files, output to a log. So it outlives the kernel or script
that started it, and neither Ctrl-C nor a closed browser ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nblb.errors import NblbError
from nblb.launch.presence import RoleLock
from nblb.system import isolated_python
from nblb.system.pids import children, is_alive, wait_gone
from nblb.system.private_folder import private_folder, runtime_folder
from nblb.system.state_mark import claim
from nblb.system.threads import start_thread

if TYPE_CHECKING:
    from nblb.parameters import Parameters

SETTINGS = "parameters.json"  # in the runtime folder: the settings of all processes that were started
SCRIPT = Path(isolated_python.__file__).name  # the first code of each process that is started
WORDS = {
    "health": ("health", "--watch"),
    "ssh": ("hub",),
    "batch": ("hub",),
}  # role -> its command, if it is not its name
TASKS_THERE = frozenset({"hub", "batch"})  # roles whose functions run in the caller's folder, with the caller's path
LONE = frozenset({"health", "monitor"})  # roles with one process per cluster; a core has its own lock
LOG_BYTES = 4 * 1024 * 1024  # a longer log is rotated when its role starts again
TAIL_LINES = 20


class RoleProcess:
    """The process of a role, with the main methods of multiprocessing.Process."""

    def __init__(self, role: str, pid: int, log: Path, log_start: int = 0) -> None:
        self.role = role
        self.name = role
        self.pid = pid
        self.log = log
        self.log_start = log_start  # where this process's own lines begin in the log

    def is_alive(self) -> bool:
        return is_alive(self.pid)

    @property
    def exitcode(self) -> int | None:
        """The exit code; None while it runs, or if it is not a child of this process."""
        child = children.get(self.pid)
        return None if child is None else child.poll()

    def terminate(self) -> None:
        """Ends the process in good order."""
        with contextlib.suppress(ProcessLookupError):
            if self.is_alive():
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process at once."""
        with contextlib.suppress(ProcessLookupError):
            if self.is_alive():
                os.kill(self.pid, signal.SIGKILL)

    def join(self, timeout: float | None = None) -> None:
        """Waits until the process has ended, `timeout` seconds at most."""
        wait_gone([self.pid], float("inf") if timeout is None else timeout)

    def tail(self) -> str:
        """The end of the process's log."""
        return tail(self.log, self.log_start)

    def __repr__(self) -> str:
        return f"<nblb {self.role} pid {self.pid}, {'running' if self.is_alive() else 'ended'}, log {self.log}>"


def tail(log: Path, start: int = 0) -> str:
    """The last lines of a log after the position `start`, for an error on a process that died."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - 16384))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""


def hand_over(parameters: Parameters) -> Path:
    """Writes the complete parameters, with absolute paths, to a private file for the processes of the cluster."""
    settings = parameters.as_dict() | {"LB_STATE_DIR": str(parameters.state_dir.absolute()), "LB_NAME": parameters.name}
    return write_private(runtime_folder(parameters), SETTINGS, json.dumps(settings, indent=1).encode())


def write_private(folder: Path, name: str, content: bytes) -> Path:
    """Writes a file that only this account can read, atomically."""
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")  # mkstemp makes it 0600
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return Path(temporary).replace(folder / name)


def spawn(
    role: str, parameters: Parameters, arguments: Sequence[str] = (), log_name: str = "", lock: RoleLock | None = None
) -> RoleProcess:
    """Starts `nblb ROLE` detached, without the caller's folder and PYTHON* variables (system/isolated_python.py).

    `lock`: the role's lock, if the caller has taken it already.
    """
    settings = hand_over(parameters)
    presence = lock or RoleLock(settings.parent, role, alone=role in LONE)
    if lock is None and not presence.take(for_child=True):
        raise NblbError(f"the {role} of '{parameters.name}' runs already ({presence.path})")
    log = _open_log(parameters, log_name or role)
    words = WORDS.get(role, (role,))
    there = ("--connect", parameters.connection) if parameters.connection else ()
    given = ("--parameters", str(settings), *there, "--presence", str(presence.file), str(presence.path))
    # A hub runs the caller's functions in the caller's folder; the other roles must not keep that folder in use.
    folder = _here() if role in TASKS_THERE else parameters.state_dir
    try:
        with log.open("ab") as output:
            log_start = output.tell()
            child = subprocess.Popen(
                isolated_python.command("nblb", [*words, *given, *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_environment(role),
                start_new_session=True,
                close_fds=True,
                pass_fds=(presence.file,),
            )
    except OSError as error:
        presence.leave()
        raise NblbError(f"the {role} cannot be started with {sys.executable}: {error}") from error
    presence.hand_over(child.pid)
    children[child.pid] = child
    return RoleProcess(role, child.pid, log, log_start)


def started_with(settings: Sequence[Path]) -> list[int]:
    """The pids of this account's processes that `spawn` has started with one of these files (Linux).

    Their command lines say so, also after somebody has removed the files of their RoleLocks.
    """
    wanted, found = {os.fsencode(path) for path in settings}, []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"--presence" not in words or process.stat().st_uid != os.getuid():
                continue
            script = Path(os.fsdecode(words[3])).name
            if script == SCRIPT and words[words.index(b"--parameters") + 1] in wanted:
                found.append(int(process.name))
        except (OSError, ValueError, IndexError):
            continue  # it has ended, or is another program
    return found


def write_log(parameters: Parameters, name: str, line: str) -> None:
    """Adds a line to the log of a role that is not started."""
    with _open_log(parameters, name).open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def _environment(role: str) -> dict[str, str]:
    environment = isolated_python.environment()
    if role in TASKS_THERE:
        environment[isolated_python.TASKS] = isolated_python.for_tasks()
    return environment


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # removed meanwhile
        return Path.home()


def _open_log(parameters: Parameters, name: str) -> Path:
    folder = private_folder(claim(parameters.state_dir) / "logs")
    log = folder / f"{name}.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)
    return log


class Echo:
    """Prints what a role adds to its log on this process's own output, while this process lives.

    startAll's processes have no terminal, yet its documentation promises the console's messages.
    """

    def __init__(self, process: RoleProcess) -> None:
        self._process = process
        self._offset = process.log_start
        self._lock = threading.Lock()
        self._over = False  # later lines of the log belong to another process
        start_thread(self._follow, f"nblb-echo-{process.role}")

    def flush(self) -> None:
        """Prints the new lines of the log."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._over:
                return
            with self._process.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(self._offset if self._offset <= size else 0)
                text = file.read(1 << 20)
                whole = text[: text.rfind(b"\n") + 1]
                self._offset = file.tell() - len(text) + len(whole)
            if whole:
                sys.stdout.write(whole.decode("utf-8", "replace"))
                sys.stdout.flush()

    def _follow(self) -> None:
        while self._process.is_alive():
            self.flush()
            time.sleep(0.1)
        self.flush()
        self._over = True
