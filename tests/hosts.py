"""Computers for tests on one computer: a switch, and hosts that share nothing but that network and the programs.

Each host has a network, process ids, a name, and a home folder of its own. All have the same name, so code that tells
computers apart by their names is found out. Root only, Linux with iproute2 and util-linux.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
NET = "198.18.78"  # of the addresses that are set aside for benchmarks
SAME_NAME = "node"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
BURNT_PIDS = 300  # of each further host, so that small numbers do not coincide

INIT = """
set -e
hostname {name}
mount --make-rprivate /
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
{own_home}
ip link set lo up
i=0; while [ $i -lt {burnt} ]; do /bin/true; i=$((i+1)); done
touch {home}/ready-{number}
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"""


def missing() -> str:
    """Why there can be no such hosts here; "" if there can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces exist on Linux only"
    if os.getuid() != 0:
        return "network namespaces need root"
    for program in ("unshare", "nsenter", "ip", "mount", "hostname"):
        if shutil.which(program, path=PATH) is None:
            return f"network namespaces need the program {program}"
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, text=True)
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


def _ip(*words: str, at: int | None = None) -> None:
    command = ["ip", *words] if at is None else ["nsenter", "-t", str(at), "-n", "ip", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": PATH})
    assert done.returncode == 0, f"{command}: {done.stderr}"


class Host:
    """One computer; `init` is its first process, as this computer knows it."""

    def __init__(self, number: int, home: Path, switch: int, shares_home: bool = False) -> None:
        self.ip, self.home = f"{NET}.{number}", home
        self._switch, self._port = switch, f"port{number}"
        own_home = "" if shares_home else f"mount -t tmpfs -o mode=755 tmpfs {home}"
        script = INIT.format(
            name=SAME_NAME, home=home, own_home=own_home, number=number, burnt=BURNT_PIDS * (number - 1)
        )
        self._unshared = subprocess.Popen(
            ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
             "sh", "-c", script],
            env={"PATH": PATH}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.init = wait_until(self._first_child, 10, "the first process of a host")
        wait_until(lambda: self.file(f"ready-{number}").exists(), 20, "a host is up")
        _ip(
            "link",
            "add",
            "eth0",
            "netns",
            str(self.init),
            "type",
            "veth",
            "peer",
            "name",
            self._port,
            "netns",
            str(switch),
        )
        _ip("link", "set", self._port, "master", "sw", "up", at=switch)
        _ip("addr", "add", f"{self.ip}/24", "dev", "eth0", at=self.init)
        _ip("link", "set", "eth0", "up", at=self.init)

    def _first_child(self) -> int:
        children = Path(f"/proc/{self._unshared.pid}/task/{self._unshared.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def file(self, name: str) -> Path:
        """A file of this host's home, as this computer sees it."""
        return Path(f"/proc/{self.init}/root{self.home}/{name}")

    def environment(self) -> dict[str, str]:
        """The environment of all programs there: nothing of ours but what finds the programs."""
        home = str(self.home)
        return {"PATH": f"{Path(sys.executable).parent}:{PATH}", "HOME": home, "LANG": "C.UTF-8", "USER": "root",
                "XDG_STATE_HOME": f"{home}/state", "XDG_CONFIG_HOME": f"{home}/config",
                "XDG_CACHE_HOME": f"{home}/cache", "NBLB_RUNTIME_DIR": f"{home}/run", "TMPDIR": home,
                "PYTHONPATH": str(ROOT)}  # fmt: skip

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program there."""
        inside = [
            "nsenter",
            "-t",
            str(self.init),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "sh",
            "-c",
            'cd "$HOME" && exec "$@"',
            "sh",
        ]
        return subprocess.Popen([*inside, *command], env=self.environment(), text=True, **options)

    def run(self, *command: str, timeout_s: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program there, and return what it printed."""
        with self.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"{command} took longer than {timeout_s} s:\n{out}\n{err}") from None
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{out}\n{err}"
        return done

    def nblb(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run an nblb command there."""
        return self.run(sys.executable, "-m", "nblb", *words, **options)

    def python(self, code: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run Python code there, from a file, so that its functions have source."""
        script = self.file(f"script-{time.monotonic_ns()}.py")
        script.write_text(code)
        return self.run(sys.executable, script.name, **options)

    def write(self, name: str, text: str) -> str:
        """Write a file of its home; return the path as its programs see it."""
        self.file(name).write_text(text)
        return f"{self.home}/{name}"

    def cut(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self._port, "down", at=self._switch)

    def mend(self) -> None:
        """Put the cable in again."""
        _ip("link", "set", self._port, "up", at=self._switch)

    def rate(self, bits: str) -> None:
        """Bandwidth in both directions, such as "40mbit"; "" for what this computer can."""
        for device, at in (("eth0", self.init), (self._port, self._switch)):
            tc = ["nsenter", "-t", str(at), "-n", "tc", "qdisc"]
            environment = {**os.environ, "PATH": PATH}
            subprocess.run([*tc, "del", "dev", device, "root"], capture_output=True, env=environment)
            if bits:
                slow = ["tbf", "rate", bits, "burst", "256k", "latency", "50ms"]
                subprocess.run([*tc, "add", "dev", device, "root", *slow], check=True, env=environment)

    def down(self) -> None:
        """Switch it off: all its processes end at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL)
        self._unshared.wait(10)


class Lab:
    """Some hosts on one switch."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="nblb-h"))
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        switch = self._holder.pid
        wait_until(lambda: Path(f"/proc/{switch}/ns/net").readlink() != Path("/proc/self/ns/net").readlink(), 10)
        self._switch = switch
        _ip("link", "add", "sw", "type", "bridge", at=switch)
        _ip("link", "set", "sw", "up", at=switch)
        self.hosts: list[Host] = []

    def add(self, shares_home: bool = False) -> Host:
        """One more host; `shares_home`: with the same home as the others that share it, as on a server of files."""
        self.hosts.append(Host(len(self.hosts) + 1, self.home, self._switch, shares_home))
        return self.hosts[-1]

    def down(self) -> None:
        """All of it away."""
        for host in self.hosts:
            host.down()
        self._holder.kill()
        self._holder.wait(10)
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def lab(number: int = 2, shares_home: bool = False) -> Iterator[Sequence[Host]]:
    """Hosts for a test, which is skipped with the reason where there can be none."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    made = Lab()
    try:
        for _ in range(number):
            made.add(shares_home)
        yield made.hosts
    finally:
        made.down()
