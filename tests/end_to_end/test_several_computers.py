"""Hubs and notebooks on other computers: over a real network between namespaces, with equal names and other pids."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import Host, lab
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

SETTINGS = {
    "LB_NAME": "lab", "LB_CLIENTPULLPORT": 9210, "LB_WKPULLPORT": 9211, "LB_HCREPPORT": 9212, "WKHUB_LBPORT": 9213,
    "WKHUB_HCPORT": 9214, "MONITOR_PORT": 9215, "LB_HEARTBEAT_S": 0.2, "LB_SUSPECT_S": 1.0, "LB_LEASE_S": 4.0,
    "WKHUB_WORKERS": [{"nWorkers": 2}],
}  # fmt: skip

CLIENT = """
import nblb as lb, sys, time, json

@lb.task
def square(x):
    return x * x

@lb.task
def where():
    import os, socket
    return os.readlink("/proc/self/ns/net"), os.getpid()

def raised(call):
    begun = time.monotonic()
    try:
        value = call()
    except BaseException as error:
        return type(error).__name__, str(error), time.monotonic() - begun
    return "nothing", repr(value), time.monotonic() - begun

cluster = lb.connect(sys.argv[1] if len(sys.argv) > 1 else "lab")
"""


class Computers:
    """A core on one host, and parties on others."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.core, self.other = hosts[0], hosts[1]
        self.hosts = hosts
        self._processes: list[subprocess.Popen[str]] = []
        self.parameters = self.core.write("p.json", json.dumps(SETTINGS))

    def start(self, *words: str) -> None:
        self.core.nblb(
            "start", "-p", self.parameters, "--listen", self.core.ip, "--no-monitor", "--workers", "0", *words
        )

    def at_core(self, *words: str, **options: Any) -> str:
        return self.core.nblb(*words, "-p", self.parameters, **options).stdout

    def invite(self, name: str, role: str = "user", expires: str = "1h") -> str:
        line = self.at_core("invite", name, "--role", role, "--expires", expires)
        return line.removeprefix("nblb join ").strip()

    def join(self, host: Host, name: str, role: str = "user", known_as: str = "lab") -> None:
        host.nblb("join", self.invite(name, role), "--name", known_as)

    def start_hub(self, host: Host, known_as: str = "lab") -> subprocess.Popen[str]:
        log = host.file("hub.log").open("w")
        hub = host.popen(sys.executable, "-m", "nblb", "hub", "--cluster", known_as, "--workers", "2",
                         stdout=log, stderr=subprocess.STDOUT)  # fmt: skip
        self._processes.append(hub)
        wait_until(
            lambda: "connected to the Load Balancer" in host.file("hub.log").read_text(), 20, "a hub is connected"
        )
        return hub

    def hubs(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.at_core("hubs", "--json"))
        return rows

    def audit(self) -> list[dict[str, Any]]:
        text = self.core.file("state/nblb/lab/access/audit.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def computers(number: int = 2) -> Iterator[Computers]:
    with lab(number) as hosts:
        made = Computers(hosts)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def made() -> Iterator[Computers]:
    with computers() as made:
        made.start()
        made.join(made.other, "gpu1", "hub")
        made.join(made.other, "anna")
        made.start_hub(made.other)
        yield made


def test_a_map_over_the_wire(made: Computers) -> None:
    said = made.other.python(
        CLIENT
        + """
print(sum(square.map(range(10_000)).results()))
print(cluster.user, where.submit().result()[0])
"""
    ).stdout.split()
    assert said[:2] == [str(sum(x * x for x in range(10_000))), "anna"]
    assert said[2] == str(Path(f"/proc/{made.other.init}/ns/net").readlink())
    assert [(row["name"], row["state"]) for row in made.hubs()] == [("gpu1", "up")]


def test_large_arrays_both_ways(made: Computers) -> None:
    said = made.other.python(
        CLIENT
        + """
import numpy as np
from pathlib import Path

@lb.task
def doubled(array):
    return array * 2

@lb.task
def summed(array, k):
    return float(array[k])

array = np.arange(4_000_000, dtype=np.float64)
back = doubled.submit(array).result()
print((back == 2 * array).all(), back.flags.writeable)
again = doubled.submit(back).result()
print((again == 4 * array).all())
big = lb.put(array)
print(sum(f.result() for f in [summed.submit(big, k) for k in range(10)]))
"""
    ).stdout.split()
    array_bytes = 8 * 4_000_000
    assert said == ["True", "True", "True", "45.0"]
    shared = list(made.other.file("state/nblb/remote/mirrors").glob("*/shared/*"))
    assert any(path.stat().st_size >= array_bytes for path in shared), "the arrays came through the bulk door"
    wait_until(lambda: not _named(made.core, "incoming"), 20, "what was put up for a message is removed after it")


def _named(host: Host, folder: str) -> list[str]:
    return [path.name for path in host.file(f"state/nblb/lab/{folder}").iterdir() if path.name != "token"]
