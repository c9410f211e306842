"""A cluster without /proc or shared memory, or with a read-only home: it works, or says what it lacks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import sys
import nblb as lb
with lb.start(sys.argv[1], monitor=False) as cluster:
    print(sum(lb.task(abs).map(range(100)).results(60)), end=" ")
    print(len(lb.task(bytes).submit(bytes(1_000_000)).result(60)), end=" ")
    print(cluster.status().core.pid > 0, len(cluster.workers()))
"""


# A /dev without the folder shm.
NO_SHM = """old=$(mktemp -d); mount --rbind /dev $old; mount -t tmpfs none /dev
for name in null zero full random urandom tty; do touch /dev/$name; mount --bind $old/$name /dev/$name; done
ln -s /proc/self/fd /dev/fd; umount -l $old; rmdir $old"""

TASKS_OWN = """
import sys
import nblb as lb

@lb.task
def shared():
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=100_000)
    memory.buf[:] = bytes(100_000)

with lb.start(sys.argv[1], monitor=False) as cluster:
    pids = {worker.pid for worker in cluster.workers()}
    error = shared.submit().exception(60)
    print(type(error).__name__, type(error.__cause__).__name__, lb.task(abs).submit(-1).result(60))
    print({worker.pid for worker in cluster.workers()} == pids)
"""


@pytest.fixture
def run(settings: dict[str, object], tmp_path: Path) -> Callable[..., str]:
    """Runs the script, with these mounts in its own view of the file system; returns what it prints."""
    if os.getuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root can hide folders of the system")
    (tmp_path / "parameters.json").write_text(json.dumps(settings))
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(mounts: str, **environment: str) -> str:
        command = f'{mounts}; exec "$0" "$@"'
        words = ["unshare", "-m", "bash", "-c", command, sys.executable, "script.py", "parameters.json"]
        done = subprocess.run(
            words, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    "mounts",
    [
        "mount -t tmpfs none /proc",
        "mount -t tmpfs -o size=4k none /dev/shm; head -c 4096 /dev/zero > /dev/shm/full",
        "mount -t tmpfs -o ro none /dev/shm",
        NO_SHM,
        "mount -t tmpfs -o ro none /sys",
    ],
)
def test_it_works_without_what_it_can_do_without(run: Callable[..., str], mounts: str) -> None:
    assert "4950 1000000 True 2" in run(mounts)


@pytest.mark.parametrize("mounts", [NO_SHM, "mount -t tmpfs -o ro none /dev/shm"])
def test_a_task_that_needs_shared_memory_fails_alone(run: Callable[..., str], tmp_path: Path, mounts: str) -> None:
    (tmp_path / "script.py").write_text(TASKS_OWN)
    said = run(mounts)
    assert re.search(r"TaskFailed (OSError|FileNotFoundError|PermissionError) 1\nTrue", said), said


def test_proxies_in_the_environment_lead_to_no_process_of_ours(run: Callable[..., str]) -> None:
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SOCKS_PROXY")
    assert "4950 1000000 True 2" in run("true", **dict.fromkeys(names, "socks5://127.0.0.1:9"), no_proxy="")


def test_a_home_that_cannot_be_written_is_named(run: Callable[..., str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    settings = json.loads((tmp_path / "parameters.json").read_text())
    del settings["LB_STATE_DIR"]
    (tmp_path / "parameters.json").write_text(json.dumps(settings))
    said = run(f"mount -t tmpfs -o ro none {home}", HOME=str(home), XDG_STATE_HOME="")
    assert "Read-only file system; name another with LB_STATE_DIR" in said
