"""The fork server, from which workers are forked: small, single-threaded, with a worker's imports already loaded.

A fork of the hub itself would copy its sockets and the threads of its host program; starting a fresh Python takes
80 ms per worker. The fork server only forks, signals and waits, so it can report exactly how each worker ended. It
receives its orders as JSON datagrams:

    ["start", worker, {settings}] with the worker's descriptors      ["signal", worker, number, whole_group]
    ["import", "", module]  for the workers forked after that

and sends ["started", worker, pid], ["failed", worker, reason] and ["died", worker, status, peak_kib].

It does not outlive its hub: when the hub is gone for any reason, it kills every worker's process group, then all
processes that were reparented to it (it is their subreaper), and ends. If the fork server itself is killed,
PR_SET_PDEATHSIG kills the workers.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pwd
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from nblb.system import accounts
from nblb.system.isolated_python import TASKS, set_up_for_tasks

if TYPE_CHECKING:
    from nblb.worker.settings import WorkerSettings

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
FDS = ("channel", "cell", "stdout_read", "stdout_write", "stderr_read", "stderr_write", "asked")
_LINUX = sys.platform == "linux"


def prctl(option: int, value: int) -> None:
    """Call prctl(2) if the system has it."""
    if _LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent(parent: int, number: int) -> None:
    """Have this process get the signal when its parent ends, or at once if it has ended already."""
    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


class ForkServer:
    """Forks workers for the hub at the other end of `control`."""

    def __init__(self, control: socket.socket, hub: int, tasks: str = "") -> None:
        self._control = control
        self._hub = hub
        self._tasks = tasks  # path and variables for tasks
        self._pids: dict[str, int] = {}
        self._workers: dict[int, str] = {}
        self._leaving = False
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)

    def serve(self) -> None:
        """Serve until the hub has closed its end, or until SIGTERM."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._leave)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # A group of its own in the hub's session: if the hub ends while a task has stopped this process, the kernel
        # sends it SIGHUP and SIGCONT, and it continues and ends all that is left.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.setpgid(0, 0)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        die_with_parent(self._hub, signal.SIGTERM)
        ready = select.poll()
        ready.register(self._control, select.POLLIN)
        ready.register(self._wake_read, select.POLLIN)
        while not self._leaving:
            for fd, _ in ready.poll():
                if fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(fd, 4096)
                    self._reap()
                elif not self._obey():
                    self._leaving = True
        self._end_all()

    def _leave(self, *_: object) -> None:
        self._leaving = True

    def _say(self, *words: object) -> None:
        with contextlib.suppress(OSError):  # the hub is gone; the loop notices that
            self._control.send(json.dumps(words).encode())

    def _obey(self) -> bool:
        """Execute one order of the hub; return False when the hub is gone."""
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            order, ancillary, _, _ = self._control.recvmsg(65536, socket.CMSG_SPACE(4 * len(FDS)), flags)
        except OSError:
            return False
        if not order:
            return False
        fds: list[int] = []
        for _, kind, data in ancillary:
            if kind == socket.SCM_RIGHTS:
                fds += array.array("i", data)
        word, worker, *rest = json.loads(order)
        if word == "start":
            self._start(worker, rest[0], fds)
        elif word == "signal":
            self._signal(worker, *rest)
        elif word == "import":
            with contextlib.suppress(Exception):  # a task that needs it raises the error itself
                importlib.import_module(rest[0])
            gc.collect()
            gc.freeze()
        return True

    def _start(self, worker: str, settings: object, fds: list[int]) -> None:
        fork_server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._say("failed", worker, f"it could not be started: {error.strerror}")
            pid = -1
        if pid == 0:
            self._become_worker(worker, settings, dict(zip(FDS, fds, strict=True)), fork_server)
        for fd in fds:
            os.close(fd)
        if pid > 0:
            self._pids[worker], self._workers[pid] = pid, worker
            self._say("started", worker, pid)

    def _become_worker(self, worker: str, settings: object, fds: dict[str, int], fork_server: int) -> None:
        """Run the worker in the forked process; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)
            die_with_parent(fork_server, signal.SIGKILL)
            prctl(PR_SET_CHILD_SUBREAPER, 1)  # processes that its tasks start stay below it while it lives
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            from nblb.worker import main
            from nblb.worker.settings import WorkerSettings

            known = msgspec.convert(settings, WorkerSettings)
            if known.account:
                _become_user(known, fds, fork_server)
            if self._tasks:
                set_up_for_tasks(self._tasks)
            code = main.main(worker, known, fds)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def _signal(self, worker: str, number: int, whole_group: bool) -> None:
        """Signal a worker. Only this process can be sure of the pid, since only it reaps workers."""
        pid = self._pids.get(worker)
        if pid is None:
            return
        with contextlib.suppress(OSError):
            if whole_group:
                os.killpg(pid, number)
        with contextlib.suppress(OSError):  # it may not have created its group yet
            os.kill(pid, number)

    def _reap(self) -> None:
        """Report the workers that have ended, and kill the rest of their process groups."""
        while True:
            try:
                if hasattr(os, "waitid"):
                    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if found is None:
                        return
                    if found.si_pid in self._workers:
                        self._kill_group(found.si_pid)  # before the pid can be reused
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._kill_group(pid)
                del self._pids[worker]
                self._say("died", worker, status, usage.ru_maxrss // (1 if _LINUX else 1024))
            self._kill_strays()

    @staticmethod
    def _kill_group(pid: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)

    def _kill_strays(self) -> None:
        """Kill what a dead worker's tasks have started: it is a child of this process now.

        Each living worker adopts the orphaned processes of its own tasks, so those found here belong to dead workers.
        The end of each is reported here too, so its own orphans are found then.
        """
        for pid in _children():
            if pid not in self._workers and not _is_zombie(pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _end_all(self) -> None:
        """Kill all children, and those that they leave to this process, until there are none."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for pid in self._workers:
            self._kill_group(pid)
        while True:
            for pid in _children():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            try:
                os.wait()
            except ChildProcessError:
                return


def _become_user(settings: WorkerSettings, fds: dict[str, int], fork_server: int) -> None:
    """Give up root's rights in a forked worker, before anything of the user is read."""
    from nblb.worker import main

    main.set_priority(settings.niceness)  # a negative one needs root
    owner = pwd.getpwnam(settings.account)
    for stream in ("stdout_write", "stderr_write"):
        os.fchown(fds[stream], owner.pw_uid, owner.pw_gid)  # so that a task can open /dev/stdout
    accounts.become(settings.account)
    prctl(PR_SET_DUMPABLE, 0)
    die_with_parent(fork_server, signal.SIGKILL)  # a change of the account takes that back


def _children() -> list[int]:
    """Return the children of this process, including those of dead workers."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def main(arguments: list[str]) -> None:
    fd, hub = map(int, arguments)
    control = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    tasks = os.environ.pop(TASKS, "")
    # Modules that every worker needs, loaded once and shared by all workers.
    from nblb.worker import main  # noqa: F401

    gc.collect()
    gc.freeze()  # so that garbage collection in a worker does not copy these pages
    ForkServer(control, hub, tasks).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
