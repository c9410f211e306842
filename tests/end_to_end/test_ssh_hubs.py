"""Hubs over a real ssh server, under another account of this computer.

Needs root, to make that account and run the server. The account cannot read this session's files, so it gets a copy of
nblb and of the packages that nblb needs.
"""

from __future__ import annotations

import compileall
import getpass
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import nblb as lb
from nblb import launch
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

SSHD = "/usr/sbin/sshd"
PACKAGES = ("cloudpickle", "msgspec", "pyzmq", "platformdirs", "psutil")


def why_not() -> str:
    """Return why these tests cannot run here; "" if they can."""
    if os.geteuid() != 0:
        return "only root can make an account and run a server for it"
    for program in (SSHD, "useradd", "userdel", "usermod", "ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return "" if readable_python() else "there is no interpreter of this version that another account can run"


def readable_python() -> str:
    """Return an interpreter with this minor version that every account can run; "" if there is none."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for path in (f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        if Path(path).exists():
            return path
    return ""


pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


@dataclass
class There:
    """Another account behind an ssh server."""

    account: str
    python: str
    server: subprocess.Popen[bytes]

    def processes(self) -> list[psutil.Process]:
        """Return its processes, but those that have ended and wait for their parents."""
        found = []
        for process in psutil.process_iter(["username", "status"]):
            ended = process.info["status"] == psutil.STATUS_ZOMBIE
            if process.info["username"] == self.account and not ended:
                found.append(process)
        return found

    def files(self) -> list[Path]:
        """Return its files in the folder for temporary files."""
        return [path for path in Path("/tmp").iterdir() if _owner(path) == self.account]


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return ""


@pytest.fixture(scope="module")
def copied() -> Iterator[Path]:
    """A copy of nblb and its packages that every account can read."""
    folder = Path(tempfile.mkdtemp(prefix="ssh-hubs-", dir="/tmp"))
    for name in PACKAGES:
        found = importlib.metadata.distribution(name)
        for file in found.files or ():
            source, target = Path(str(found.locate_file(file))), folder / file
            if ".." not in file.parts and source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    shutil.copytree(Path(lb.__file__).parent, folder / "nblb", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(folder, quiet=1)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def there(copied: Path) -> Iterator[There]:
    """A server on a free port, and an account that is removed at the end; NBLB_SSH knows both as lab2."""
    account = f"nblb{uuid.uuid4().hex[:8]}"
    folder = Path(tempfile.mkdtemp(prefix="sshd-", dir="/tmp"))
    folder.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "user.pub").chmod(0o644)
    (folder / "sshd").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "StrictModes no\nUsePAM no\nPidFile none\n"
    )
    (folder / "config").write_text(
        f"Host lab2\n  HostName 127.0.0.1\n  Port {port}\n  User {account}\n  IdentityFile {folder}/user\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n  StrictHostKeyChecking accept-new\n"
    )
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", account], check=True)
    patch = pytest.MonkeyPatch()
    try:
        subprocess.run(["usermod", "-p", "*", account], check=True)  # without a password, and not locked
        patch.setenv("NBLB_SSH", f"ssh -F {folder}/config")
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd"], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _answers(folder), what="the ssh server")
            yield There(account, f"env PYTHONPATH={copied} {readable_python()}", server)
        finally:
            server.terminate()
            server.wait(10)
    finally:
        patch.undo()
        subprocess.run(["userdel", "--remove", "--force", account], stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


def _answers(folder: Path) -> bool:
    asked = subprocess.run(["ssh", "-F", folder / "config", "lab2", "true"], capture_output=True)
    return asked.returncode == 0


@pytest.fixture
def cluster(parameters: Parameters, there: There) -> Iterator[Cluster]:
    """A core without a hub here; at the end nothing of the other account may be left."""
    with lb.start(parameters, workers=0, monitor=False) as cluster:
        yield cluster
    launch.stop(parameters)
    wait_until(lambda: not there.processes(), what=f"the end of all processes of {there.account}")
    assert there.files() == []


def ssh_of(pid: int) -> psutil.Process:
    return next(iter(psutil.Process(pid).children()))


def whose(number: int) -> tuple[str, int]:
    return getpass.getuser(), number


def test_it_runs_a_thousand_tasks_there_and_leaves_nothing(cluster: Cluster, there: There) -> None:
    process = cluster.add_hub(host="lab2", workers=2, python=there.python)
    rows = {row.what: row for row in process.differences}
    assert rows["numpy"].there == ""  # it is not in the copy
    results = lb.task(whose).map(range(1000)).results()
    assert results == [(there.account, number) for number in range(1000)]
    large = os.urandom(3 << 20)
    assert lb.task(len).submit(large).result(60) == len(large)
    assert not cluster.hubs()[0].address  # nobody here can ask it
    cluster.stop()
    wait_until(lambda: not there.processes(), what="the end of its processes")
    assert there.files() == []


def prints(lines: int) -> int:
    for number in range(lines):
        print(f"{number:06} {'x' * 80}")
    return lines


def test_all_that_a_task_there_prints_comes_here(cluster: Cluster, there: There) -> None:
    """The hub's account cannot enter the core's folder: what is printed comes with the end of each slice."""
    cluster.add_hub(host="lab2", workers=2, python=there.python)
    future = lb.task(prints).submit(30_000)
    assert future.result(60) == 30_000
    assert future.stdout == "".join(f"{number:06} {'x' * 80}\n" for number in range(30_000))
    job = lb.task(prints).map([10, 2000])
    assert job.results() == [10, 2000]
    assert [job[at].stdout.count("\n") for at in range(2)] == [10, 2000]


def test_ssh_is_killed_and_the_hub_goes_on(cluster: Cluster, there: There) -> None:
    process = cluster.add_hub(host="lab2", workers=2, python=there.python)
    (hub,) = cluster.hubs()

    @lb.task
    def slow(number: int) -> int:
        import time

        time.sleep(0.02)
        return number

    job = slow.map(range(200))
    for _ in range(2):
        ssh = ssh_of(process.pid)
        ssh.kill()
        wait_until(lambda ssh=ssh: ssh_of(process.pid).pid != ssh.pid, what="another ssh")
    assert job.results() == list(range(200))
    assert [row.pid for row in cluster.hubs()] == [hub.pid]


def test_a_connection_that_hangs_is_given_up_and_made_again(cluster: Cluster, there: There) -> None:
    """The server's process is stopped, as if the cable were cut: no end of the connection arrives anywhere."""
    process = cluster.add_hub(host="lab2", workers=1, python=there.python)
    (hub,) = cluster.hubs()
    ssh = ssh_of(process.pid)
    serving = [one for one in psutil.Process(there.server.pid).children(recursive=True) if "sshd" in one.name()]
    for one in serving:
        one.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not ssh.is_running() or ssh.status() == psutil.STATUS_ZOMBIE, what="the end of ssh")
        wait_until(lambda: "runs on" in process.log.read_text(), what="another connection")
        assert lb.task(whose).submit(1).result(60) == (there.account, 1)
        assert [row.pid for row in cluster.hubs()] == [hub.pid]
    finally:
        for one in serving:
            one.send_signal(signal.SIGCONT)


def test_the_hub_is_killed_and_that_is_reported(cluster: Cluster, there: There) -> None:
    process = cluster.add_hub(host="lab2", workers=1, python=there.python)
    (hub,) = cluster.hubs()
    os.kill(hub.pid, signal.SIGKILL)
    wait_until(lambda: not process.is_alive(), what="the end of the process here")
    assert "killed by SIGKILL" in process.log.read_text()
    wait_until(lambda: not cluster.hubs(), what="the end of the hub at the core")


def test_a_core_that_is_gone_for_long_ends_the_hub(parameters: Parameters, there: There) -> None:
    chosen = parameters.changed(LB_ORPHAN_S=2.0)
    with lb.start(chosen, workers=0, monitor=False) as cluster:
        process = cluster.add_hub(host="lab2", workers=1, python=there.python)
        for pid in (process.pid, ssh_of(process.pid).pid):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not there.processes(), what="the end of the hub by itself")
    for path in there.files():
        shutil.rmtree(path)  # its log stays for the next connection, or an hour


def test_the_whole_of_it_from_the_command_line(parameters: Parameters, there: There, tmp_path: Path) -> None:
    settings = tmp_path / "parameters.json"
    settings.write_text(json.dumps(parameters.as_dict()))
    with lb.start(str(settings), workers=0, monitor=False) as cluster:
        words = ["hub", "-p", str(settings), "--host", "lab2", "--workers", "1", "--python", there.python]
        with subprocess.Popen([sys.executable, "-m", "nblb", *words], stdout=subprocess.PIPE, text=True) as shown:
            wait_until(lambda: cluster.status().workers == 1, what="the hub")
            shown.send_signal(signal.SIGINT)
            output = shown.communicate(timeout=60)[0]
        assert shown.returncode == 0
        assert "here" in output.splitlines()[0]
        assert "connected to the Load Balancer" in output
        assert "has ended: in good order" in output
    wait_until(lambda: not there.processes(), what="the end of its processes")
    assert there.files() == []
