"""A client that does not read while much waits for it: the core's memory stays small, and others are not delayed.

NBLB_SLOW_MIB=2048 makes it 2 GiB instead of 256 MiB.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

import nblb as lb
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

MIB = 2**20
RESULTS_MIB = int(os.environ.get("NBLB_SLOW_MIB", "256"))
MOST_MIB = 64  # that the core may grow by
JOBS = ("small", "large", "one record")

CLIENT = """
import json, sys
import nblb as lb
cluster = lb.connect(json.loads(sys.argv[1]))
many, some = int(sys.argv[2]), int(sys.argv[3])
def make(size):
    import os
    return os.urandom(size)
small = lb.task(make).map([100_000] * many, job="small", chunksize=1)
large = lb.task(make).map([4 * 2**20] * some, job="large", chunksize=1)
one = lb.task(make).map([3_000_000] * 64, job="one record")
def kept():
    return sum(sum(row.counts.values()) for row in cluster.jobs())
while kept() < many + some + 64:
    small.wait(0.1)
print("accepted", flush=True)
assert sum(map(len, one.results())) == 3_000_000 * 64
assert sum(map(len, small.results())) == 100_000 * many
assert sum(map(len, large.results())) == 4 * 2**20 * some
print("all read", flush=True)
"""


@lb.task
def ping(x: int) -> int:
    return x


def latency_s(times: int) -> float:
    """The 99th percentile of there and back."""
    took = []
    for n in range(times):
        begun = time.perf_counter()
        assert ping.submit(n).result(60) == n
        took.append(time.perf_counter() - begun)
    return statistics.quantiles(took, n=100)[-1]


@pytest.mark.timeout(600)
def test_what_waits_for_a_stopped_client_waits_on_disk(cluster: Cluster, parameters: Parameters) -> None:
    some = RESULTS_MIB // 2 // 4
    many = RESULTS_MIB // 2 * MIB // 100_000
    core = psutil.Process(cluster.status().core.pid)
    ping.map(range(200)).results()
    quiet_s = latency_s(200)
    before = core.memory_info().rss
    words = [sys.executable, "-c", CLIENT, json.dumps(parameters.as_dict()), str(many), str(some)]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "accepted\n"
        client.send_signal(signal.SIGSTOP)
        peak, done = 0, 0
        while done < many + some + 64:
            done = sum(row.counts.get("DONE", 0) for row in cluster.jobs() if row.name in JOBS)
            peak = max(peak, core.memory_info().rss)
            time.sleep(0.05)
        busy_s = latency_s(200)
        peak = max(peak, core.memory_info().rss)
        grown = (peak - before) / MIB
        p99 = f"p99 of others {quiet_s * 1e3:.1f} ms before, {busy_s * 1e3:.1f} ms now"
        told = f"{RESULTS_MIB} MiB wait: the core grew by {grown:.0f} MiB; {p99}"
        print(told)
        assert grown <= MOST_MIB, told
        client.send_signal(signal.SIGCONT)
        assert client.stdout.readline() == "all read\n"
        assert (core.memory_info().rss - before) / MIB <= MOST_MIB
    finally:
        client.kill()
        client.wait()
        assert client.stdout is not None
        client.stdout.close()


@lb.task
def size_of(data: bytes) -> int:
    return len(data)


def test_large_arguments_wait_on_disk(cluster: Cluster) -> None:
    core = psutil.Process(cluster.status().core.pid)
    assert size_of.submit(b"warm").result(60) == 4
    cluster.scale(0)
    wait_until(lambda: not cluster.workers(), 20, "the workers to go")
    before = core.memory_info().rss
    futures = [size_of.submit(bytes([n % 250]) * 200_000 + str(n).encode()) for n in range(500)]
    wait_until(lambda: not cluster.connection.session.unaccepted, 60, "all to be accepted")
    grown = (core.memory_info().rss - before) / MIB
    print(f"100 MB of arguments wait: the core grew by {grown:.0f} MiB")
    assert grown <= MOST_MIB
    cluster.scale(2)
    assert [future.result(60) for future in futures] == [200_000 + len(str(n)) for n in range(500)]
