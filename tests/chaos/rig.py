"""A cluster whose processes are killed, and restarted as `nblb start` would."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

from nblb import launch
from nblb.errors import NblbError
from nblb.launch.presence import present
from nblb.parameters import Parameters
from nblb.system import pids

ROOT = Path(__file__).parents[2]
KINDS = ("core", "hub", "worker", "client", "core and hub", "nursery", "all", "core, twice")
WEIGHTS = (5, 3, 4, 3, 2, 1, 1, 2)
CLIENTS = 2
RESTART_S = 60.0


class Rig:
    """The cluster, its clients, and a hand that kills."""

    def __init__(
        self, parameters: Parameters, folder: Path, seed: int, client: str = "tests.chaos.client", number: int = CLIENTS
    ) -> None:
        self.parameters, self.folder = parameters, folder
        self.client, self.number = client, number  # which module is a client, and how many there are at a time
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.clients: list[subprocess.Popen[bytes]] = []
        self.started = 0  # clients so far
        self.slowest_start_s = 0.0
        (folder / "runs").mkdir(parents=True)

    # ── life ──

    def start(self) -> None:
        """Core and hub, as `nblb start` starts them; tries again when the chaos was faster."""
        begun = time.monotonic()
        while True:
            try:
                launch.start(self.parameters, monitor=False).close()
                break
            except NblbError:
                if time.monotonic() > begun + RESTART_S:
                    raise
        self.slowest_start_s = max(self.slowest_start_s, time.monotonic() - begun)

    def start_clients(self) -> None:
        self.clients = [client for client in self.clients if client.poll() is None]
        while len(self.clients) < self.number:
            self.started += 1
            words = [json.dumps(self.parameters.as_dict()), str(self.folder), f"client{self.started}"]
            with (self.folder / f"client{self.started}.out").open("wb") as output:
                command = [sys.executable, "-m", self.client, *words, str(self.chance.randrange(2**32))]
                client = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)
            self.clients.append(client)

    def end_clients(self, deadline_s: float) -> int:
        """They finish what they are at; how many did not in time."""
        (self.folder / "stop").touch()
        until = time.monotonic() + deadline_s
        late = 0
        for client in self.clients:
            try:
                client.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()
                late += 1
        return late

    def close(self) -> None:
        for client in self.clients:
            if client.poll() is None:
                client.kill()
                client.wait()
        launch.stop(self.parameters)

    # ── death ──

    def strike(self) -> None:
        """Kill something, a random moment from now, and start what died."""
        time.sleep(self.chance.uniform(0.02, 0.8))
        self.kill(self.chance.choices(KINDS, WEIGHTS)[0])

    def kill(self, kind: str) -> None:
        """Kill this, and start what died."""
        self.kills[kind] += 1
        if kind == "client":
            client = self.chance.choice(self.clients)
            client.kill()
            client.wait()
        elif kind == "worker":
            self._kill(self.chance.sample(workers := self._workers(), min(1, len(workers))))
        elif kind == "nursery":
            self._kill(self._nurseries())
        else:
            roles = ("core", "hub") if kind in ("core and hub", "all") else (kind.partition(",")[0],)
            self._kill([pid for role in roles for pid in self.pids(role)])
            if kind == "all":
                for client in self.clients:
                    client.kill()
                    client.wait()
        if kind == "core, twice":
            self._start_and_kill()
        self.start()
        self.start_clients()

    def _start_and_kill(self) -> None:
        """The core is killed again while it comes up."""
        pause_s = self.chance.uniform(0.05, 0.8)
        starting = threading.Thread(target=self.start)
        starting.start()
        time.sleep(pause_s)
        self._kill(self.pids("core"))
        starting.join()

    def pids(self, role: str) -> list[int]:
        """Of the processes of this role that live."""
        return [one.pid for one in present(self.parameters.runtime_dir, role)]

    def _kill(self, victims: list[int]) -> None:
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert pids.wait_gone(victims, 60) == []

    def _nurseries(self) -> list[int]:
        found = []
        for hub in self.pids("hub"):
            with contextlib.suppress(psutil.Error):
                found += [child.pid for child in psutil.Process(hub).children()]
        return found

    def _workers(self) -> list[int]:
        found = []
        for fork_server in self._nurseries():
            with contextlib.suppress(psutil.Error):
                found += [child.pid for child in psutil.Process(fork_server).children()]
        return sorted(found)
