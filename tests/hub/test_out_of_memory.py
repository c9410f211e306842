"""The kernel's out-of-memory killer, in a memory cgroup if this account can create one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until

MIB = 2**20
ROOT = Path(__file__).parents[2]
VERSIONS = {  # where groups are made, and the file of the limit
    "2": (Path("/sys/fs/cgroup"), "memory.max"),
    "1": (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
}

HUB = """
import sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text("0")
from nblb.protocol.messages import WorkerDied
from tests.hub.pool_rig import PoolRig
def swallow():
    import time
    data = []
    while True:
        data.append(bytearray(20_000_000))
        time.sleep(0.2)
rig = PoolRig()
rig.give(swallow)
print(rig.wait(WorkerDied, deadline_s=60).reason)
rig.close()
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory cgroup of 300 MiB."""
    for root, limit in VERSIONS.values():
        if not (root / "cgroup.procs").exists():
            continue
        group = root / f"nblb-test-{os.getpid()}"
        try:
            group.mkdir()
            if not (group / limit).exists():  # no memory controller here
                group.rmdir()
                continue
            (group / limit).write_text(str(300 * MIB))
        except OSError:
            continue
        yield group
        wait_until(lambda group=group: not (group / "cgroup.procs").read_text(), 10, "the group to be empty")
        group.rmdir()
        return
    pytest.skip("this account cannot make a memory cgroup")


def test_the_kernel_takes_the_worker_and_its_task_is_told(group: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", HUB, str(group)], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("killed by the kernel for memory: "), said.stdout
    assert " MB of 300 MB, after " in said.stdout
    assert "; its memory was " in said.stdout
