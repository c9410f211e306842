"""Answers the Health Check's probes of whether workers are free, busy or gone, in the seed's format."""

from __future__ import annotations

import contextlib
import json
import selectors
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from nblb.errors import NblbError
from nblb.parameters import Parameters
from nblb.system.private_folder import loopback_address, runtime_folder, socket_address
from nblb.transport.unix_router import UnixRouter
from nblb.transport.zmq_router import ZmqRouter

TURN_PROBES = 100
KEEP_S = 1.0
MAX_MESSAGE_MB = 1
EMPTY = OSError, zmq.ZMQError  # BlockingIOError and Again among them


class Probes:
    """A socket in the runtime folder, and one on WKHUB_HCPORT if TCP is allowed.

    Every request gets one answer; a ROUTER cannot lose step with its clients as a REP socket can.
    """

    def __init__(self, parameters: Parameters, hub: str, states: Callable[[], dict[str, int]]) -> None:
        self._states = states
        self.has_more = False
        self._parameters, self._name = parameters, f"hub-{hub}.health"
        self.address = ""
        self._keep_at = 0.0
        self.port = 0
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._router = UnixRouter(MAX_MESSAGE_MB)
        self._routers: list[UnixRouter | ZmqRouter] = [self._router]
        self._selector = selectors.DefaultSelector()
        try:
            self._bind(runtime_folder(parameters) / self._name)
            if parameters.LB_SECURITY == "none":
                self.port = self._bind_tcp(parameters)
            for router in self._routers:
                self._selector.register(router.fileno(), selectors.EVENT_READ)
        except BaseException:
            self.close()
            raise

    def _bind(self, path: Path) -> None:
        self.address = socket_address(path)
        self._router.bind(path)

    def keep(self, now: float) -> None:
        """Bind the Unix socket again if somebody has removed its file, and end a pause; looks once a second."""
        if now < self._keep_at or not self._parameters.state_dir.is_dir():
            return
        self._keep_at = now + KEEP_S
        self._router.go_on()
        with contextlib.suppress(NblbError, OSError):  # a full disk: the next call tries again
            if not self._router.is_at(self._parameters.runtime_dir / self._name):
                self._bind(runtime_folder(self._parameters) / self._name)

    def _bind_tcp(self, parameters: Parameters) -> int:
        self._context = zmq.Context()
        router = ZmqRouter(self._context, MAX_MESSAGE_MB)
        self._routers.append(router)
        ip = loopback_address(parameters.WKHUB_IP, "WKHUB_IP")
        host = f"[{ip}]" if ":" in ip else ip
        router.socket.setsockopt(zmq.IPV6, ":" in ip)
        try:
            router.socket.bind(f"tcp://{host}:{parameters.WKHUB_HCPORT or '*'}")
        except zmq.ZMQError:  # a second hub on this machine
            try:
                router.socket.bind(f"tcp://{host}:*")
            except zmq.ZMQError as error:
                raise NblbError(f"WKHUB_IP: cannot listen on {ip}: {error.strerror}.") from None
        return int(router.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def fileno(self) -> int:
        """Return a descriptor that is readable when requests have arrived."""
        return self._selector.fileno()

    def answer(self) -> None:
        """Answer the requests that have arrived; `has_more` is set if some are left."""
        self.has_more = False
        for router in self._routers:
            for _ in range(TURN_PROBES):
                if not router.has_input():
                    break
                with contextlib.suppress(*EMPTY):
                    router.next()
                    frames = router.rest()
                    reply = json.dumps(self._reply(bytes(frames[-1]))).encode()
                    router.send([*frames[:-1], reply])
            else:
                self.has_more = True

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
        for router in self._routers:
            router.close()
        if self._context is not None:
            self._context.term()
        self._selector.close()
