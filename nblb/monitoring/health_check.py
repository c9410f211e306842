"""The Health Check: probes core and hubs from outside, as a user would, and reports what is wrong.

It uses only the documented JSON messages, on its own sockets, so that its findings depend neither on the client nor on
the core's own state. The core decides liveness itself; the Health Check observes, and reports workers to the core that
have been silent for long.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import zmq

from nblb.parameters import load
from nblb.system.console import printable
from nblb.system.core_file import find_core_file
from nblb.transport.dialing import best_address

if TYPE_CHECKING:
    from pathlib import Path

    from nblb.parameters import Parameters

DOWN_AFTER_S = 10.0  # a worker that has been silent for this long is reported to the core as down
REPEAT_FIRST_S, REPEAT_MOST_S = 1.0, 60.0  # pauses between repetitions of a warning, which grow
COLOURS = {"info": "\x1b[34m", "good": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
NO_COLOUR = "\x1b[0m"


class HealthCheck:
    """The Health Check of a cluster: it probes the core and the hubs and prints what a person should know.

    Parameters
    ----------
    parametersfile
        The path of a parameters.json, a dict of its keys, or None for the defaults.
    output
        The text stream that it writes to; sys.stdout by default.
    clock
        A function that returns monotonic seconds.

    Examples
    --------
    >>> HC = lb.HealthCheck('parameters.json')
    >>> HC.startHC()
    """

    def __init__(
        self,
        parametersfile: str | Path | Mapping[str, Any] | Parameters | None = None,
        output: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.parameters = load(parametersfile)
        self.workers: dict[str, dict[str, Any]] = {}  # as the core lists them, with the `state` reported by the hubs
        self.core_answers = False
        self._output = output
        self._clock = clock
        self._said: dict[str, tuple[float, float]] = {}  # warning -> (when to repeat it, the pause after that)
        self._silent_since: dict[str, float] = {}
        self._stopping = threading.Event()

    # ── names of pyLoadBalancer ────────────────────────────────────────────────────────────────────────────────────

    def startHC(self, checkTimer: float = 1) -> None:
        """Check again and again until `stop`; blocks.

        Parameters
        ----------
        checkTimer
            Seconds between two checks.

        Examples
        --------
        >>> HC.startHC(checkTimer=5)
        """
        while not self._stopping.is_set():
            self.doHealthCheckTasks()
            self._stopping.wait(checkTimer)
        self._print("info", "EXITED Health Check")

    def doHealthCheckTasks(self) -> bool:
        """Check the core once, then its workers.

        Returns
        -------
        bool
            True if the cluster can run tasks.

        Examples
        --------
        >>> HC.doHealthCheckTasks()
        """
        said = set(self._said)
        true_now: set[str] = set()
        answer = self._ask_core({"HEALTH": "GIVEMEWORKERSLIST"})
        self.core_answers = isinstance(answer, dict) and "error" not in answer
        if not self.core_answers:
            self.workers = {}
            self._warn("error", "HC - CAN'T GET WORKER LIST : LB DOWN ??", true_now)
        else:
            self.workers = answer
            self.checkWorkers()
            if not self.workers:
                self._warn("warning", "HC - WARNING : LB HAS NO WORKERS", true_now)
            self._report_silent(true_now)
        for sentence in said - true_now:
            del self._said[sentence]
        if said and not true_now:
            self._print("good", f"HC - OK : {len(self.workers)} workers")
        return self.core_answers and any(worker.get("state", -1) != -1 for worker in self.workers.values())

    def checkWorkers(self) -> dict[str, Any]:
        """Ask every hub for the states of its workers.

        Returns
        -------
        dict
            Worker -> 100 free, 0 busy, -1 gone (or its hub is silent).

        Examples
        --------
        >>> HC.checkWorkers()
        """
        # the core answers for hubs on other computers, which accept no connection
        states: dict[str, Any] = {worker: about.get("state", -1) for worker, about in self.workers.items()}
        waiting = {}
        poller = zmq.Poller()
        for door, ids in self._doors().items():
            try:
                socket = _request(door, {"HEALTH": "CHECKWORKERS", "workerid": ids})
            except zmq.ZMQError:
                continue  # not an address: its workers count as silent
            waiting[socket] = ids
            poller.register(socket, zmq.POLLIN)
        until = time.monotonic() + 2 * self.parameters.SOCKET_TIMEOUT / 1000
        while waiting and (left := until - time.monotonic()) > 0:
            for socket, _ in poller.poll(int(1000 * left) + 1):
                ids = waiting.pop(socket)
                poller.unregister(socket)
                said = _json(socket.recv())
                socket.close(0)
                if isinstance(said, dict):
                    states.update({worker: state for worker, state in said.items() if worker in ids and state != -1})
        for socket in waiting:
            socket.close(0)
        for worker, state in states.items():
            self.workers[worker]["state"] = state
        return states

    def downWorker(self, workerid: str) -> bool:
        """Report to the core that a worker is down.

        Parameters
        ----------
        workerid
            Its id.

        Returns
        -------
        bool
            True if the core has confirmed it.

        Examples
        --------
        >>> HC.downWorker('worker_c0b28c1f')
        """
        answer = self._ask_core({"HEALTH": "DOWNWORKER", "workerid": workerid})
        if answer is None:
            self._print("error", "HC - CAN'T SEND DOWN WORKER TO LB: LB DOWN ??")
        return isinstance(answer, dict) and answer.get("LB") == "OK"

    # ── the rest ────────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """Ends startHC, from any thread or signal handler."""
        self._stopping.set()

    def _report_silent(self, true_now: set[str]) -> None:
        now = self._clock()
        silent = [worker for worker, about in self.workers.items() if about.get("state") == -1]
        self._silent_since = {worker: self._silent_since.get(worker, now) for worker in silent}
        for worker in silent:
            silent_s = now - self._silent_since[worker]
            if silent_s < DOWN_AFTER_S:
                continue
            # without the seconds, which would make each round's warning a new one
            key = f"HC - {worker} SEEMS DOWN"
            self._warn("error", key, true_now, f"HC - {worker} SEEMS DOWN ({silent_s:.0f}s and state=-1)")
            self.downWorker(worker)

    def _doors(self) -> dict[str, list[str]]:
        """Addresses at which hubs answer probes -> workers to ask for there."""
        doors: dict[str, list[str]] = {}
        for worker, about in self.workers.items():
            if "state" in about:
                continue
            address = about.get("address") or ""
            if not address and about.get("workerhealthport"):
                address = f"tcp://{about['workerip']}:{about['workerhealthport']}"
            if address:
                doors.setdefault(address, []).append(worker)
        unanswered = any("state" not in about for about in self.workers.values())
        if not doors and unanswered:  # hubs that listen only in the private folder of this machine
            everybody, core = list(self.workers), find_core_file(self.parameters)
            folder = self.parameters.runtime_dir if core is None else core.runtime_dir
            doors = {f"ipc://{path}": everybody for path in folder.glob("hub-*.health")}
        return doors

    def _ask_core(self, request: dict[str, Any]) -> Any:
        """The core's answer on its health socket; None if it does not arrive in time."""
        address = self._health_door()
        if not address:
            return None
        try:
            socket = _request(address, request)
        except zmq.ZMQError:
            return None
        try:
            return _json(socket.recv()) if socket.poll(self.parameters.SOCKET_TIMEOUT) else None
        finally:
            socket.close(0)

    def _health_door(self) -> str:
        core = find_core_file(self.parameters)
        if core is not None and (address := best_address(core.addresses, "health", zeromq=True)):
            return address
        if self.parameters.LB_SECURITY == "none" and self.parameters.LB_HCREPPORT:
            return f"tcp://{self.parameters.LB_IP}:{self.parameters.LB_HCREPPORT}"
        return ""

    def _warn(self, level: str, key: str, true_now: set[str], sentence: str = "") -> None:
        """Prints a warning at once, and again after 1, 2, 4 … 60 seconds while it stays true."""
        true_now.add(key)
        now = self._clock()
        due, pause = self._said.get(key, (now, REPEAT_FIRST_S))
        if now >= due:
            self._said[key] = (now + pause, min(2 * pause, REPEAT_MOST_S))
            self._print(level, sentence or key)

    def _print(self, level: str, sentence: str) -> None:
        output, sentence = self._output or sys.stdout, printable(sentence)
        if output.isatty():
            sentence = f"{COLOURS[level]}{sentence}{NO_COLOUR}"
        print(sentence, file=output, flush=True)


def _request(address: str, request: dict[str, Any]) -> zmq.Socket[bytes]:
    """Sends a request; returns the socket on which the answer will arrive."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        socket.connect(address)
        socket.send(json.dumps(request).encode(), zmq.NOBLOCK)
    except zmq.ZMQError:
        socket.close(0)
        raise
    return socket


def _json(frame: bytes) -> Any:
    try:
        return json.loads(frame)
    except ValueError:
        return None
