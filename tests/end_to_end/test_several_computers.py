"""Hubs and notebooks on other computers: over a real network between namespaces, with equal names and other pids."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
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


def test_tasks_on_a_remote_hub_submit_tasks(made: Computers) -> None:
    said = made.other.python(CLIENT + """
@lb.task
def outer(n):
    return sum(square.map(range(n)).results()) + square.submit(10).result()

print(outer.submit(20).result(timeout=60))
print(sorted(row.user for row in cluster.users()))
""").stdout.split("\n")  # fmt: skip
    assert said[0] == str(sum(x * x for x in range(20)) + 100)
    assert "'anna'" in said[1]  # who submitted the outer task
    assert "gpu1" not in said[1]  # the hub on which it ran


def test_health_and_status_from_another_computer(made: Computers) -> None:
    assert made.other.nblb("health", "--cluster", "lab").stdout.startswith("OK: 2 workers")
    health = json.loads(made.at_core("health", "--json"))
    assert health["ok"], "the core answers for hubs that nobody can ask"
    assert set(health["workers"].values()) <= {0, 100}
    assert "workers   2 in 1 hub," in made.other.nblb("status", "--cluster", "lab").stdout
    assert "anna" in made.at_core("users", "list")


def test_the_address_of_another_computer_uses_its_cluster(made: Computers) -> None:
    path = made.other.write("there.json", json.dumps({"LB_IP": made.core.ip}))
    said = made.other.python(CLIENT.replace('lb.connect(sys.argv[1] if len(sys.argv) > 1 else "lab")',
                                            f'lb.start("{path}")') + """
print(square.submit(7).result(), cluster.user)
client = lb.Client("there.json")
print(client.getTask("nothing")["error"])
""").stdout.split("\n")  # fmt: skip
    assert said[0] == "49 anna"
    assert "no task" in said[1]
    elsewhere = made.other.write("elsewhere.json", json.dumps({"LB_IP": "198.18.78.77"}))
    refused = made.other.nblb("start", "-p", elsewhere, "--no-monitor", check=False)
    assert refused.returncode == 1
    assert "198.18.78.77" in refused.stderr
    assert "nblb join LINE" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not made.other.file("state/nblb/lab-5799").exists(), "no second core is started"


def test_refusals_are_one_sentence_within_two_seconds(made: Computers) -> None:
    made.join(made.other, "carl", known_as="carls")
    made.join(made.other, "eve", "viewer", known_as="eves")
    code = (
        CLIENT.replace("cluster = lb", "# cluster = lb")
        + """
print(json.dumps(raised(lambda: lb.connect("carls"))))
"""
    )
    made.at_core("users", "revoke", "carl", "--reason", "laptop lost")
    kind, said, took_s = json.loads(made.other.python(code).stdout)
    assert kind == "NotAllowed"
    assert "laptop lost" in said
    assert took_s < 2.0
    viewer = (
        CLIENT.replace('"lab")', '"eves")')
        + """
print(json.dumps(raised(lambda: square.submit(2).result(timeout=20))))
"""
    )
    kind, said, _ = json.loads(made.other.python(viewer).stdout)
    assert (kind, "viewer's" in said) == ("NotAllowed", True)
    file = made.other.file("config/nblb/clusters/eves.json")
    file.chmod(0o644)
    refused = made.other.nblb("status", "--cluster", "eves", check=False)
    assert refused.returncode == 1
    assert "can be read by other accounts" in refused.stderr
    for name in ("carls", "eves"):  # another test looks for the connection file of this address
        made.other.file(f"config/nblb/clusters/{name}.json").unlink()


def test_of_two_identities_at_one_core_the_one_that_is_not_refused_is_used(made: Computers) -> None:
    made.join(made.other, "dora", known_as="newest")
    file = made.other.write("there.json", json.dumps({"LB_IP": made.core.ip}))
    who = CLIENT.replace('lb.connect(sys.argv[1] if len(sys.argv) > 1 else "lab")', 'lb.connect("there.json")')
    try:
        assert made.other.python(who + "print(cluster.user)\n").stdout.split() == ["dora"]
        made.at_core("users", "revoke", "dora", "--reason", "left")
        for command in (("status", "-p", file), ("users", "-p", file)):
            said = made.other.nblb(*command)
            assert "was revoked (left)" in said.stderr, "a sentence says which key is not used any more"
        said = made.other.python(who + "print(cluster.user, square.submit(3).result())\n")
        assert said.stdout.split() == ["anna", "9"]
        refused = made.other.nblb("status", "--cluster", "newest", check=False)
        assert refused.returncode == 1, "the one that was named is used, and no other"
        assert "was revoked (left)" in refused.stderr
    finally:
        made.other.file("config/nblb/clusters/newest.json").unlink()


def test_all_output_of_a_task_on_another_computer(made: Computers) -> None:
    """From a hub elsewhere to a client elsewhere, through the core's folder and the bulk door."""
    said = made.other.python(
        CLIENT
        + """
@lb.task
def prints(lines):
    for n in range(lines):
        print(f"line {n:06} " + "x" * 80)
    print("last", file=sys.stderr)
    return lines

def whole(lines):
    return "".join(f"line {n:06} " + "x" * 80 + chr(10) for n in range(lines))

f = prints.submit(60_000)  # 5.5 MB
assert f.result(timeout=60) == 60_000
print(f.stdout == whole(60_000), len(f.stdout), f.output("stderr") == "last" + chr(10), f.output(tail=2).count(chr(10)))
print("".join(f.read_output("stdout")) == whole(60_000))
small = prints.submit(3)
small.result(timeout=60)
print(small.output("stdout") == whole(3))
job = prints.map([100, 2000, 5], chunksize=3)
print(job.results(), [job[at].stdout == whole(n) for at, n in enumerate((100, 2000, 5))])
print(f.task_id)
"""
    ).stdout.split("\n")
    assert said[:4] == ["True 5580000 True 2", "True", "True", "[100, 2000, 5] [True, True, True]"]
    folder = next(made.core.file("state/nblb/lab/output").iterdir()) / said[4]
    assert sum(path.stat().st_size for path in folder.iterdir()) > 5_000_000, "the core has it, as of its own hubs"
    assert not list(made.other.file("state/nblb/remote/mirrors").glob("*/*/output/*")), "nothing is left at the hub"
    made.join(made.other, "frank", known_as="franks")
    asks = """
from nblb.client.futures.output_access import kept_output
print(bool(kept_output(cluster.connection, sys.argv[1], 0)))
"""
    try:
        script = made.other.write(
            "asks.py", CLIENT.replace('sys.argv[1] if len(sys.argv) > 1 else "lab"', '"lab"') + asks
        )
        assert made.other.run(sys.executable, script, said[4]).stdout.strip() == "True", "its owner may fetch it"
        made.other.write("asks.py", Path(made.other.file("asks.py")).read_text().replace('"lab"', '"franks"'))
        assert made.other.run(sys.executable, script, said[4]).stdout.strip() == "False", "nobody else may"
    finally:
        made.other.file("config/nblb/clusters/franks.json").unlink()
    assert any(line["event"] == "refuse" and "FetchOutput" in line["what"] for line in made.audit())


def test_a_cable_that_is_cut_in_the_middle(made: Computers) -> None:
    """The hub's lease ends before the core gives its work to others; mended, all of it is done once."""
    job = made.other.popen(sys.executable, "-c", CLIENT + """
@lb.task
def slow(x):
    time.sleep(0.1)
    return x

job = slow.map(range(120), job="cut", chunksize=1)
print("sent", flush=True)
print(sum(job.results()), flush=True)
""", stdout=subprocess.PIPE)  # fmt: skip
    assert job.stdout is not None
    assert job.stdout.readline() == "sent\n"
    wait_until(lambda: made.hubs()[0]["busy"] > 0, 20, "some of it runs")
    made.other.cut()
    wait_until(lambda: not made.hubs() or made.hubs()[0]["state"] == "suspect", 20, "the hub is silent")
    wait_until(lambda: not made.hubs(), 20, "the hub is given up", every_s=0.3)
    made.other.mend()
    out, _ = job.communicate(timeout=90)
    assert out.strip() == str(sum(range(120)))
    assert "what runs is stopped" in made.other.file("hub.log").read_text(), "the lease is not forgiven"
    assert [row["name"] for row in made.hubs()] == ["gpu1"]


def test_a_large_result_over_a_slow_line_that_is_cut_once(made: Computers) -> None:
    """It takes longer than the lease, and the heartbeats beside it keep the hub: one attempt, resumed after the cut."""
    job = made.other.popen(sys.executable, "-c", CLIENT + """
import numpy as np

@lb.task
def large(n):
    return np.arange(n, dtype=np.float64)

f = large.submit(4_000_000)
while f.state != lb.TaskState.RUNNING and not f.done():
    time.sleep(0.01)
print("runs", flush=True)
value = f.result(timeout=120)
print(value.nbytes, value[-1], f.story().count("RunTask") if isinstance(f.story(), str) else
      sum("RunTask" in str(step) for step in f.story()), flush=True)
""", stdout=subprocess.PIPE)  # fmt: skip
    gone = made.core.file("state/nblb/lab/logs/core.log").read_text().count("IS GONE")
    made.other.rate("40mbit")  # 32 MB up, and down again: about 13 s, and the lease is 4 s
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "runs\n"
        incoming = made.core.file("state/nblb/lab/incoming")
        wait_until(lambda: any(path.stat().st_size > 1e6 for path in incoming.iterdir()), 30, "some of it has come")
        made.other.cut()
        time.sleep(0.5)  # the time that the cable is out
        made.other.mend()
        out, _ = job.communicate(timeout=120)
    finally:
        made.other.rate("")
    assert out.split() == ["32000000", "3999999.0", "1"]
    assert made.core.file("state/nblb/lab/logs/core.log").read_text().count("IS GONE") == gone


def test_a_core_that_is_killed_and_started_again() -> None:
    with computers() as made:
        made.start()
        made.join(made.other, "gpu1", "hub")
        made.join(made.other, "anna")
        made.start_hub(made.other)
        job = made.other.popen(sys.executable, "-c", CLIENT + """
@lb.task
def slow(x):
    time.sleep(0.05)
    return x

job = slow.map(range(100), job="killed", chunksize=1)
print("sent", flush=True)
print(sum(job.results()), flush=True)
""", stdout=subprocess.PIPE)  # fmt: skip
        assert job.stdout is not None
        assert job.stdout.readline() == "sent\n"
        pid = json.loads(made.at_core("status", "--json"))["pid"]
        made.core.run("kill", "-9", str(pid))
        wait_until(lambda: ":9213" not in made.core.run("ss", "-Hltn").stdout, 20, "the bulk door ends with its core")
        made.start()
        out, _ = job.communicate(timeout=90)
        assert out.strip() == str(sum(range(100)))
        assert [row["name"] for row in made.hubs()] == ["gpu1"]
        made.at_core("stop")
        left = made.core.run("ss", "-Hltn").stdout
        assert not left, "nothing listens any more"


def test_a_revoked_hub_ends_and_says_why() -> None:
    with computers() as made:
        made.start()
        made.join(made.other, "gpu9", "hub")
        hub = made.start_hub(made.other)
        begun = time.monotonic()
        made.at_core("hubs", "revoke", "gpu9", "--reason", "sold")
        assert hub.wait(20) == 1
        assert time.monotonic() - begun < 15
        assert "was revoked (sold)" in made.other.file("hub.log").read_text()
        assert {"admin revoke", "join", "connect"} <= {line["event"] for line in made.audit()}
        no_secrets(made)


def no_secrets(made: Computers) -> None:
    """No private key is in an argument, an environment, a log, or a file but its own."""
    secrets = [json.loads(path.read_text())["secret_key"] for path in made.other.file("config/nblb/clusters").iterdir()]
    secrets.append(made.core.file("state/nblb/lab/access/server.key").read_text().split()[1])
    own = {"server.key", "lab.hub.json", "lab.json"}
    for host in made.hosts:
        for path in Path(f"/proc/{host.init}/root{host.home}").rglob("*"):
            if path.is_file() and path.name not in own:
                text = path.read_bytes().decode("utf-8", "replace")
                assert not any(secret in text for secret in secrets), path
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                text = (process / name).read_bytes().decode("utf-8", "replace")
                assert not any(secret in text for secret in secrets), process


def test_a_default_start_listens_on_nothing_beyond_loopback() -> None:
    if shutil.which("ss") is None:
        pytest.skip("ss of iproute2 is not installed")
    with lab(1) as (host,):
        host.nblb("start", "--workers", "1", timeout_s=90)
        said = host.run("ss", "-Hltun").stdout
        addresses = [line.split()[4].rpartition(":")[0] for line in said.splitlines()]
        assert all(address in ("127.0.0.1", "[::1]") for address in addresses), said
        host.nblb("stop")
