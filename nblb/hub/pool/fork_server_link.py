"""The hub's end of the fork server: starts it, sends it orders and receives its messages (see fork_server.py)."""

from __future__ import annotations

import array
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from nblb.system import accounts, child_processes, isolated_python
from nblb.worker.channel import PACKET
from nblb.worker.settings import WorkerSettings

END_S = 5.0


class ForkServerLink:
    """Keeps a fork server running; `on_message` gets its messages, and "gone" when it has ended by itself.

    `shares_nothing`: its workers belong to other accounts, and inherit no variables that are the hub's own.
    """

    def __init__(
        self, selector: selectors.BaseSelector, on_message: Callable[..., None], shares_nothing: bool = False
    ) -> None:
        self._selector = selector
        self._shares_nothing = shares_nothing
        self._on_message = on_message
        self._is_open = False
        self._preloaded: set[str] = set()
        with contextlib.suppress(OSError):  # no process can be created now: `start` tries again, and raises
            self._open()

    def _open(self) -> None:
        self._control, far = socket.socketpair(socket.AF_UNIX, PACKET)
        with far:
            self._process = subprocess.Popen(
                isolated_python.command("nblb.hub.pool.fork_server", [str(far.fileno()), str(os.getpid())]),
                stdin=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
                cwd="/" if self._shares_nothing else None,
                env=self._environment(),
            )
        self._is_open = True
        self._preloaded.clear()
        self._control.setblocking(False)
        self._selector.register(self._control, selectors.EVENT_READ, lambda _: self._read())

    def _environment(self) -> dict[str, str]:
        """Return an environment in which workers can import what this process can."""
        whole = {**isolated_python.environment(), isolated_python.TASKS: isolated_python.for_tasks()}
        return accounts.clean_environment(whole) if self._shares_nothing else whole

    def start(self, worker: str, settings: WorkerSettings, fds: Sequence[int]) -> None:
        """Have a worker forked; raises OSError if there is no fork server and none can be started."""
        if not self._is_open:
            self._open()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        self._order([json.dumps(["start", worker, msgspec.to_builtins(settings)]).encode()], [rights])

    def preload(self, module: str) -> None:
        """Have the fork server import the module once, for the workers forked from now on."""
        if module not in self._preloaded:
            self._preloaded.add(module)
            self._order([json.dumps(["import", "", module]).encode()], [])

    def signal(self, worker: str, number: int, whole_group: bool) -> None:
        self._order([json.dumps(["signal", worker, int(number), whole_group]).encode()], [])

    def _order(self, data: list[bytes], ancillary: list[Any]) -> None:
        if not self._is_open:
            return
        self._wake()
        self._control.setblocking(True)  # the wait is short, and an order must not be lost
        try:
            self._control.sendmsg(data, ancillary)
        except OSError:
            pass  # it has ended; `_read` notices that
        finally:
            self._control.setblocking(False)

    def _wake(self) -> None:
        """Send SIGCONT, since a task may have stopped it (SIGSTOP); this has no effect if it runs."""
        self._process.send_signal(signal.SIGCONT)

    def _read(self) -> None:
        while True:
            try:
                said = self._control.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                self._end()
                self._on_message("gone", "")
                return
            self._on_message(*json.loads(said))

    def _end(self) -> None:
        self._is_open = False
        self._selector.unregister(self._control)
        self._control.close()
        self._wake()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        child_processes.end_adopted()

    def close(self) -> None:
        """End the fork server, which ends all its workers first."""
        if self._is_open:
            self._end()
