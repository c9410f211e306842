"""What the network costs: nblb between computers beside a bare CURVE broker, in turns, in network namespaces.

    python -m tests.benchmarks.network --rounds 3

Three computers: the core's (and the bare broker's), one with two workers, one with the client. Root only. It prints the
medians of the rounds, and for each the ratio to the bare peer of the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.bare import relay
from tests.end_to_end.test_several_computers import Computers
from tests.hosts import Host, lab, missing
from tests.waiting import wait_until

CHUNK, CREDIT = 1 << 20, 8
TRIPS, SUBMITS, ARRAY_MIB, LONG_MIB = 300, 20_000, 64, 250
FRONT, BACK, STORE = 9301, 9302, 9303
SERVER = ("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6")  # ZeroMQ's examples
NBLB = """
import json, sys, time
import numpy as np
import nblb as lb

@lb.task
def same(x):
    return x

@lb.task
def pause(seconds):
    begun = time.monotonic()
    time.sleep(seconds)
    return begun, time.monotonic()

cluster = lb.connect("lab")
same.submit(1).result()
array = np.random.default_rng(1).integers(0, 255, {array} << 20, dtype=np.uint8)

def trips(n):
    found = []
    for i in range(n):
        begun = time.perf_counter()
        same.submit(i).result()
        found.append(time.perf_counter() - begun)
    return sorted(found)[n // 2]

def submits(n):
    begun = time.perf_counter()
    futures = [same.submit(i) for i in range(n)]
    called = time.perf_counter() - begun
    assert sum(f.result() for f in futures) == n * (n - 1) // 2
    return called / n

def both_ways():
    data = array + np.uint8(int(time.time()) % 200)
    begun = time.perf_counter()
    back = same.submit(data).result()
    taken = time.perf_counter() - begun
    assert (back == data).all()
    return taken

def up(mib):
    rng = np.random.default_rng(time.time_ns())  # new bytes, or they are there already
    data = rng.integers(0, 255, mib << 20, dtype=np.uint8)
    begun, asked = time.perf_counter(), []
    future = lb.task(len).submit(data)
    while not future.done():
        at = time.perf_counter()
        cluster.connection.ask("status")
        asked.append(time.perf_counter() - at)
        time.sleep(0.05)
    assert future.result() == mib << 20
    return [time.perf_counter() - begun, max(asked)]

def busy(n, seconds):
    pause.map([seconds] * 10).results()
    time.sleep(2)
    ran = pause.map([seconds] * n, chunksize=1).results()
    whole = max(end for _, end in ran) - min(begun for begun, _ in ran)
    return sum(end - begun for begun, end in ran) / (2 * whole)
"""
BARE = """
import json, sys, time
from tests.benchmarks import network
broker = network.BareClient(sys.argv[1])
trips, submits, both_ways = broker.trips, broker.submits, broker.both_ways
"""
LOOP = """
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
"""


def _curve(socket: Any, server: bool) -> None:
    import zmq

    if server:
        socket.curve_server = True
        socket.curve_secretkey, socket.curve_publickey = SERVER[1].encode(), SERVER[0].encode()
    else:
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.curve_serverkey = SERVER[0].encode()


def bare_broker(ip: str) -> None:
    """A ROUTER for clients, one for workers, and one that takes and gives chunks."""
    import zmq

    context = zmq.Context()
    clients, workers, store = (context.socket(zmq.ROUTER) for _ in range(3))
    for socket, port in ((clients, FRONT), (workers, BACK), (store, STORE)):
        _curve(socket, server=True)
        socket.set_hwm(0)
        socket.bind(f"tcp://{ip}:{port}")
    chunk = bytes(CHUNK)

    def answer() -> None:
        who, word, *_ = store.recv_multipart(copy=False)
        store.send_multipart([who.bytes, chunk if word.bytes == b"GET" else b"ok"], copy=False)

    print("ready", flush=True)
    relay(clients, workers, {store: answer})


def bare_worker(ip: str) -> None:
    import pickle

    import zmq

    socket = zmq.Context().socket(zmq.DEALER)
    _curve(socket, server=False)
    socket.connect(f"tcp://{ip}:{BACK}")
    socket.send(b"free")
    while True:
        client, number, function, args = socket.recv_multipart()
        socket.send_multipart([client, number, pickle.dumps(pickle.loads(function)(*pickle.loads(args)), 5)])


class BareClient:
    """The same measurements against the bare broker."""

    def __init__(self, ip: str) -> None:
        import cloudpickle
        import zmq

        self._again = zmq.Again
        self._noblock = zmq.NOBLOCK
        context = zmq.Context()
        self._socket, self._store = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
        for socket, port in ((self._socket, FRONT), (self._store, STORE)):
            _curve(socket, server=False)
            socket.set_hwm(0)
            socket.connect(f"tcp://{ip}:{port}")
        self._function = cloudpickle.dumps(lambda x: x)
        self.trips(1)

    def _send(self, number: int) -> None:
        import pickle

        self._socket.send_multipart([b"%d" % number, self._function, pickle.dumps((number,), 5)])

    def trips(self, n: int) -> float:
        found = []
        for number in range(n):
            begun = time.perf_counter()
            self._send(number)
            self._socket.recv_multipart()
            found.append(time.perf_counter() - begun)
        return sorted(found)[n // 2]

    def submits(self, n: int) -> float:
        begun = time.perf_counter()
        for number in range(n):
            self._send(number)
        called = time.perf_counter() - begun
        for _ in range(n):
            self._socket.recv_multipart()
        return called / n

    def both_ways(self) -> float:
        """As many chunks up, and then down, with CREDIT of them on their way."""
        data = bytes(ARRAY_MIB << 20)
        begun = time.perf_counter()
        for word in (b"PUT", b"GET"):
            sent = come = 0
            while come < ARRAY_MIB:
                while sent < ARRAY_MIB and sent - come < CREDIT:
                    part = [memoryview(data)[sent * CHUNK : (sent + 1) * CHUNK]] if word == b"PUT" else []
                    self._store.send_multipart([word, *part], copy=False)
                    sent += 1
                self._store.recv_multipart(copy=False)
                come += 1
        return time.perf_counter() - begun


class Asked:
    """A client on a computer, which evaluates what it is asked."""

    def __init__(self, host: Host, code: str, *words: str) -> None:
        script = host.write(f"client-{time.monotonic_ns()}.py", code + LOOP)
        self.process = host.popen(sys.executable, script, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def __call__(self, what: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())


class Rows:
    """Figures by name: of each round, and their medians."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(value)

    def pair(self, name: str, ours: Callable[[str], float], bare: Callable[[str], float], what: str) -> None:
        """Ask both, and note the times and their ratio."""
        mine, theirs = ours(what), bare(what)
        self.add(f"{name}: nblb, ms", 1000 * mine)
        self.add(f"{name}: bare CURVE, ms", 1000 * theirs)
        self.add(f"{name}: ratio", mine / theirs)

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(values), 4) for name, values in self.found.items()}


def measure(rounds: int) -> dict[str, float]:
    """Start everything, measure in turns, and return the medians."""
    rows = Rows()
    with lab(3) as hosts:
        core, hub, client = hosts
        made = Computers(hosts)
        started: list[subprocess.Popen[str]] = []

        def module(host: Host, role: str) -> None:
            words = (sys.executable, "-m", "tests.benchmarks.network", "--role", role, core.ip)
            started.append(host.popen(*words, stdout=subprocess.PIPE))

        try:
            made.start()
            made.join(hub, "gpu1", "hub")
            made.join(client, "anna")
            made.start_hub(hub)
            for host, role in ((core, "broker"), (hub, "worker"), (hub, "worker")):
                module(host, role)
            assert started[0].stdout is not None
            started[0].stdout.readline()
            ours, bare = Asked(client, NBLB.format(array=ARRAY_MIB)), Asked(client, BARE, core.ip)
            started += [ours.process, bare.process]
            for _ in range(rounds):
                rows.pair("round trip", ours, bare, f"trips({TRIPS})")
                rows.pair("a submit", ours, bare, f"submits({SUBMITS})")
            # large arrays, with the workers on the core's own computer: what travels crosses the wire once each way
            hub.run("pkill", "-f", "nblb hub")
            wait_until(lambda: not made.hubs(), 60, "the end of the hub on the other computer")
            words = (sys.executable, "-m", "nblb", "hub", "-p", made.parameters, "--workers", "2")
            started.append(core.popen(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_until(made.hubs, 60, "a hub on the core's computer")
            for _ in range(rounds):
                rows.pair(f"{ARRAY_MIB} MiB both ways", ours, bare, "both_ways()")
            client.rate("100mbit")
            for _ in range(rounds):
                seconds, slowest = ours(f"up({LONG_MIB})")
                rows.add(f"{LONG_MIB} MiB up at 100 Mbit/s: seconds", seconds)
                rows.add(f"{LONG_MIB} MiB up at 100 Mbit/s: of the wire's time", seconds / (LONG_MIB * 8.388608 / 100))
                rows.add(f"{LONG_MIB} MiB up at 100 Mbit/s: slowest answer beside it, ms", 1000 * slowest)
            client.rate("")
        finally:
            for process in started:
                process.kill()
                process.wait(10)
            made.close()
    return rows.medians()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", choices=("broker", "worker"), help=argparse.SUPPRESS)
    parser.add_argument("ip", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        (bare_broker if options.role == "broker" else bare_worker)(options.ip)
    if reason := missing():
        print(reason)
        return 2
    print(json.dumps(measure(options.rounds), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
