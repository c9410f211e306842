"""Answers the Health Check's probes of whether workers are free, busy or gone, in the seed's format."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from nblb.errors import NblbError
from nblb.parameters import Parameters
from nblb.system.private_folder import loopback_address, runtime_folder, socket_address
from nblb.transport.socket_file import SocketFile

TURN_PROBES = 100
KEEP_S = 1.0


class Probes:
    """A socket in the runtime folder, and one on WKHUB_HCPORT if TCP is allowed.

    Every request gets one answer; a ROUTER cannot lose step with its clients as a REP socket can.
    """

    def __init__(self, parameters: Parameters, hub: str, states: Callable[[], dict[str, int]]) -> None:
        self._states = states
        self.has_more = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 100)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 1 << 20)
        self._parameters, self._name = parameters, f"hub-{hub}.health"
        self.address = ""
        self._file: SocketFile | None = None
        self._keep_at = 0.0
        self.port = 0
        try:
            self._bind(runtime_folder(parameters) / self._name)
            if parameters.LB_SECURITY == "none":
                self.port = self._bind_tcp(parameters)
        except BaseException:
            self.close()
            raise

    def _bind(self, path: Path) -> None:
        self.address = socket_address(path)
        self._socket.bind(self.address)
        self._file = SocketFile(path)

    def keep(self, now: float) -> None:
        """Bind the Unix socket again if somebody has removed its file; looks once a second.

        It is bound in the next call, since ZeroMQ removes the file of the old address only after a while.
        """
        if now < self._keep_at or not self._parameters.state_dir.is_dir():
            return
        self._keep_at = now + KEEP_S
        with contextlib.suppress(NblbError, OSError, zmq.ZMQError):  # a full disk: the next call tries again
            if self._file is None:
                self._bind(runtime_folder(self._parameters) / self._name)
            elif not self._file.is_at(self._parameters.runtime_dir / self._name):
                self._file = None
                self._socket.unbind(self.address)

    def _bind_tcp(self, parameters: Parameters) -> int:
        ip = loopback_address(parameters.WKHUB_IP, "WKHUB_IP")
        host = f"[{ip}]" if ":" in ip else ip
        try:
            self._socket.bind(f"tcp://{host}:{parameters.WKHUB_HCPORT or '*'}")
        except zmq.ZMQError:  # a second hub on this machine
            try:
                self._socket.bind(f"tcp://{host}:*")
            except zmq.ZMQError as error:
                raise NblbError(f"WKHUB_IP: cannot listen on {ip}: {error.strerror}.") from None
        return int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def fileno(self) -> int:
        """Return a descriptor that becomes readable, once, when requests arrive."""
        return int(self._socket.getsockopt(zmq.FD))

    def answer(self) -> None:
        """Answer the requests that have arrived; `has_more` is set if some are left."""
        self.has_more = True
        for _ in range(TURN_PROBES):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                self.has_more = False
                return
            with contextlib.suppress(zmq.ZMQError):
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                reply = json.dumps(self._reply(frames[-1])).encode()
                self._socket.send_multipart([*frames[:-1], reply], zmq.NOBLOCK)

    def _reply(self, frame: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(frame)
            if asked.get("HEALTH") != "CHECKWORKERS" or not isinstance(asked["workerid"], list):
                return {"error": "a hub answers {'HEALTH': 'CHECKWORKERS', 'workerid': [...]} only"}
            states = self._states()
            return {worker: states.get(worker, -1) for worker in asked["workerid"] if isinstance(worker, str)}
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            return {"error": f"the request is not understood: {error!r}"}

    def close(self) -> None:
        self._socket.close()
        self._context.term()
        if self._file is not None:
            self._file.remove()
