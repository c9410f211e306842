"""The limits of this machine without nblb: a bare round trip, memory copies, a commit to the disk."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from nblb.host import cores

ECHO = """
import sys, zmq
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind(sys.argv[1])
while True:
    who, what = socket.recv_multipart()
    if what == b"end":
        break
    socket.send_multipart([who, what])
"""
MIB = 2**20


def describe() -> dict[str, Any]:
    """Describes the machine for later readers of the figures."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_GiB": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def bare_round_trip_us(times: int = 400) -> float:
    """The median round trip between a ZeroMQ DEALER and a ROUTER in two processes over a Unix socket."""
    import zmq

    with tempfile.TemporaryDirectory(prefix="nb") as folder:
        address = f"ipc://{folder}/echo"
        peer = subprocess.Popen([sys.executable, "-c", ECHO, address], stdin=subprocess.DEVNULL)
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, 10_000)
            socket.connect(address)
            took = []
            for _ in range(times):
                begun = perf_counter()
                socket.send(b"x" * 64)
                socket.recv()
                took.append(perf_counter() - begun)
            socket.send(b"end")
            peer.wait(10)
        finally:
            peer.kill()
            peer.wait()
            socket.close()
            context.term()
    return statistics.median(took[times // 10 :]) * 1e6


def copy_MiB_per_s(mib: int = 64) -> float:
    """The rate of plain copies in memory."""
    source, target = bytearray(os.urandom(MIB) * mib), bytearray(mib * MIB)
    rates = []
    for _ in range(5):
        begun = perf_counter()
        target[:] = source
        rates.append(mib / (perf_counter() - begun))
    return statistics.median(rates)


def write_MiB_per_s(folder: Path, mib: int = 64) -> float:
    """The rate of writing a new file without waiting for the disk, as the journal writes payloads."""
    data = os.urandom(MIB) * mib
    path = folder / f".bench-{os.getpid()}"
    try:
        begun = perf_counter()
        with path.open("wb", buffering=0) as file:
            file.write(data)
        return mib / (perf_counter() - begun)
    finally:
        path.unlink(missing_ok=True)


def commit_us(folder: Path, durability: str = "process", times: int = 100) -> float:
    """The median time of a one-row commit as the journal makes it, to a separate database beside it."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as name:
        db = sqlite3.connect(Path(name) / "probe.sqlite", isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
            db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB)")
            took = []
            for _ in range(times):
                begun = perf_counter()
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO rows (data) VALUES (?)", (b"x" * 300,))
                db.execute("COMMIT")
                took.append(perf_counter() - begun)
        finally:
            db.close()
    return statistics.median(took) * 1e6
