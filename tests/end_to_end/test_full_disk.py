"""A journal on a disk of 8 MiB that is full: no promise without room, nothing lost, and on it goes by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from nblb.launch import pids
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, where this account may mount one."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a file system of 8 MiB")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "nblb-test", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def settings(settings: dict[str, Any], small_disk: Path) -> dict[str, Any]:
    return settings | {"LB_STATE_DIR": str(small_disk / "state"), "LB_QUEING_MAXPERUSER": 0}


@lb.task
def size_of(data: bytes) -> int:
    return len(data)


@lb.task
def wait_for(path: str, size: int) -> bytes:
    """Runs until there is a file of this name."""
    Path(f"{path}.begun").touch()
    while not Path(path).exists():
        time.sleep(0.01)
    return bytes(size)


def test_a_full_disk_refuses_keeps_and_goes_on(
    cluster: Cluster, parameters: Parameters, small_disk: Path, tmp_path: Path
) -> None:
    running = wait_for.submit(str(tmp_path / "go"), 100_000)
    wait_until((tmp_path / "go.begun").exists, 20, "a task to run")
    wait_until(lambda: not cluster.session.unaccepted, 20, "it to be accepted")
    with (small_disk / "filler").open("wb") as filler:
        left = os.statvfs(small_disk)
        filler.write(bytes(left.f_bavail * left.f_frsize - 700_000))
    futures = [size_of.submit(b"%06d" % n + bytes(1000)) for n in range(100)]  # for which there is room
    wait_until(lambda: not cluster.session.unaccepted, 20, "the first to be accepted")
    futures += [size_of.submit(b"%06d" % n + bytes(1000)) for n in range(100, 1500)]
    wait_until(lambda: any(future.done() and future.exception() for future in futures), 30, "a refusal")
    with pytest.raises(lb.JournalFull):  # it is still full, and says so at once
        size_of.submit(bytes(100_000)).result(10)
    (tmp_path / "go").touch()  # what runs goes on, and its result waits for room at its hub
    time.sleep(0.2)
    pid = cluster.status().core.pid
    (small_disk / "filler").unlink()
    assert len(running.result(30)) == 100_000
    ends = [future.exception(30) for future in futures]
    assert {type(error) for error in ends} == {type(None), lb.JournalFull}
    assert {future.result() for future, error in zip(futures, ends, strict=True) if error is None} == {1006}
    assert "is full" in str(next(error for error in ends if error is not None))
    wait_until(lambda: size_of.submit(b"again").exception(10) is None, 20, "tasks to be accepted again")
    assert cluster.status().core.pid == pid  # without a restart

    kept = size_of.map([bytes(n) for n in range(50)], job="kept")
    wait_until(lambda: not cluster.session.unaccepted, 20, "the job to be accepted")
    os.kill(pid, signal.SIGKILL)
    assert pids.wait_gone([pid], 5) == []
    launch.start(parameters, monitor=False).close()
    assert kept.results(30) == list(range(50))
    assert cluster.attach("kept").results(30) == list(range(50))
