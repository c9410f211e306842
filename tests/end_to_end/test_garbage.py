"""Garbage at every socket of a live core while another user works: nothing breaks or grows, and work continues.

NBLB_GARBAGE=100000 throws that many messages instead of 5,000; the line that is printed tells what others felt of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import nblb as lb
from nblb.parameters import load
from nblb.system.core_file import read_core_file
from tests.end_to_end.garbage import A_CONNECTION
from tests.end_to_end.latency import in_words, ping, round_trips

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

MESSAGES = int(os.environ.get("NBLB_GARBAGE", "5000"))
MIB = 2**20
MOST_MIB = 48  # more than a heap with holes; one that kept what it refused had 11 KiB for each
PER_LINE_MIB = 0.4  # … and what waits unread inside ZeroMQ: 32 messages for each connection
A_ROUND = 25  # round trips before the noise begins or stops again, so that both see the same machine


@pytest.fixture
def open_cluster(settings: dict[str, Any]) -> Iterator[Cluster]:
    """One that also listens on TCP, on loopback."""
    settings["LB_SECURITY"] = "none"
    with lb.start(settings, monitor=False) as cluster:
        yield cluster


@pytest.mark.timeout(600)
def test_garbage_breaks_nothing_and_holds_nobody_up(open_cluster: Cluster, settings: dict[str, Any]) -> None:
    parameters = load(settings)
    written = read_core_file(parameters.connection_file)
    assert written is not None
    core = psutil.Process(written.pid)
    ping.map(range(200)).results()
    words = [json.dumps(written.addresses), str(MESSAGES), "1"]
    root = Path(__file__).parents[2]
    thrower = subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.garbage", *words], stdout=subprocess.PIPE, text=True, cwd=root
    )
    quiet, noisy = list[float](), list[float]()
    try:
        assert thrower.stdout is not None
        assert thrower.stdout.readline() == "throwing\n"
        before = 0
        while thrower.poll() is None:
            noisy += round_trips(A_ROUND)
            thrower.send_signal(signal.SIGSTOP)
            before = before or core.memory_info().rss  # it has seen each kind by now
            quiet += round_trips(A_ROUND)
            thrower.send_signal(signal.SIGCONT)
        thrown = json.loads(thrower.stdout.read())
    finally:
        thrower.send_signal(signal.SIGCONT)
        thrower.kill()
        thrower.wait()
        assert thrower.stdout is not None
        thrower.stdout.close()
    grown = (core.memory_info().rss - before) / MIB
    status = open_cluster.status()
    sent = f"{MESSAGES:,} messages of {thrown['frames']:,} frames, and {thrown['connections']:,} raw connections"
    came = f"{status.garbage:,} refused, {status.faults} faults, the core grew by {grown:.1f} MiB"
    print(f"{sent}: {came}; {in_words(quiet, noisy)}")
    assert status.faults == 0
    assert "Unexpected error" not in (parameters.state_dir / "logs" / "core.log").read_text()
    assert status.garbage > MESSAGES / 2
    assert grown < MOST_MIB + PER_LINE_MIB * MESSAGES / A_CONNECTION
    assert ping.submit(7).result(60) == 7
