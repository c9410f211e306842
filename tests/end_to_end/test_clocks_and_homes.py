"""What computers of a lab may share and may differ in: clocks that are hours apart, one home for two computers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from tests import shifted_clock
from tests.end_to_end.test_several_computers import CLIENT, SETTINGS
from tests.hosts import Host, lab
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.parameters import Parameters

pytestmark = pytest.mark.timeout(180)
needs_compiler = pytest.mark.skipif(bool(shifted_clock.missing()), reason=shifted_clock.missing() or "-")
HOURS = 3600

ASKS = """
import json, sys, time
import nblb as lb

@lb.task
def waits(n):
    time.sleep(0.05)
    return time.time()

cluster = lb.connect(sys.argv[1])
job = waits.map(range(20), job="shifted", chunksize=1)
times = job.results()
one = waits.submit(1)
one.result()
(row,) = [row for row in cluster.jobs() if row.name == "shifted"]
hub = cluster.hubs()[0]
story = one.story()
print(json.dumps({
    "now": time.time(), "hub": times[-1], "story": story[-1][0], "took_s": story[-1][0] - story[0][0],
    "job_s": row.ended_at - row.created_at, "age_s": hub.age_s, "created_at": row.created_at,
    "inbox": len(lb.inbox(everywhere=True)),
}))
"""


@needs_compiler
@pytest.mark.parametrize(("hub_h", "client_h"), [(3, -5), (-30, 0), (0, 7)])
def test_clocks_that_are_hours_apart(parameters: Parameters, tmp_path: Path, hub_h: int, client_h: int) -> None:
    """Leases, run times and ages do not mind; points of time are those of the core's clock."""
    with launch.start(parameters, workers=0, monitor=False) as cluster:
        settings = str(parameters.runtime_dir / "parameters.json")
        hub = subprocess.Popen(
            [sys.executable, "-m", "nblb", "hub", "-p", settings, "--workers", "2"], stdout=subprocess.DEVNULL,
            env={**os.environ, **shifted_clock.environment(tmp_path, hub_h * HOURS)},
        )  # fmt: skip
        try:
            wait_until(lambda: len(cluster.workers()) == 2, 30, "the workers of a hub with another clock")
            script = tmp_path / "asks.py"
            script.write_text(ASKS)
            begun = time.time()
            said = subprocess.run(
                [sys.executable, str(script), settings], capture_output=True, text=True, timeout=90,
                env={**os.environ, **shifted_clock.environment(tmp_path, client_h * HOURS)},
            )  # fmt: skip
            assert said.returncode == 0, said.stderr
            about: dict[str, Any] = json.loads(said.stdout)
            assert about["now"] - time.time() == pytest.approx(client_h * HOURS, abs=60), (
                "the client's clock is another"
            )
            assert about["hub"] - time.time() == pytest.approx(hub_h * HOURS, abs=60), "the hub's clock is another"
            assert begun - 5 < about["created_at"] < time.time() + 5
            assert begun - 5 < about["story"] < time.time() + 5
            assert 0 <= about["took_s"] < 30
            assert 0 <= about["job_s"] < 60
            assert 0 <= about["age_s"] < 10
            result = lb.task(abs).submit(-3)
            assert result.result(30) == 3
            assert cluster.hubs()[0].state == "up"
            assert [user.used_s < 60 for user in cluster.users()] == [True]
        finally:
            hub.terminate()
            hub.wait(20)


def test_two_computers_with_one_home_and_one_name() -> None:
    """A hub on each with the account's one key; what ends on one computer takes nothing from the other."""
    with lab(2, shares_home=True) as (first, second):
        settings = first.write("p.json", json.dumps(SETTINGS))
        first.nblb("start", "-p", settings, "--listen", first.ip, "--no-monitor", "--workers", "0")
        line = first.nblb("invite", "node", "--role", "hub", "-p", settings).stdout
        second.nblb("join", line.removeprefix("nblb join ").strip(), "--name", "lab")
        line = first.nblb("invite", "anna", "-p", settings).stdout
        second.nblb("join", line.removeprefix("nblb join ").strip(), "--name", "lab")
        assert first.file("config/nblb/clusters/lab.json").exists(), "the home is one"
        hubs = [host.popen(sys.executable, "-m", "nblb", "hub", "--cluster", "lab", "--workers", "1",
                           stdout=subprocess.DEVNULL) for host in (first, second)]  # fmt: skip
        try:
            names = wait_until(lambda: two_hubs(first, settings), 40, "a hub of each computer")
            assert len(set(names)) == 2
            both = (
                CLIENT
                + """
@lb.task
def place(n):
    import os, time
    time.sleep(0.05)
    return os.readlink("/proc/self/ns/net")
print(len(set(place.map(range(40), chunksize=1).results())))
"""
            )
            assert second.python(both).stdout.strip() == "2", "tasks run on both computers"
            # What the second computer starts and stops is its own.
            own = second.write("own.json", json.dumps({**SETTINGS, "LB_NAME": "own", "LB_CLIENTPULLPORT": 9310}))
            second.nblb("start", "-p", own, "--no-monitor", "--workers", "1", timeout_s=90)
            second.nblb("stop", "-p", own)
            assert json.loads(first.nblb("status", "-p", settings, "--json").stdout)["hubs"] == 2
            second.down()
            wait_until(lambda: len(rows(first, settings)) == 1, 20, "the hub of the second computer has gone")
            assert first.python(both).stdout.strip() == "1", "the connection file is in the one home"
            assert first.file("run").exists(), "the folder of the core's sockets is still there"
        finally:
            for hub in hubs:
                hub.kill()
                hub.wait(10)


def rows(host: Host, settings: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.nblb("hubs", "-p", settings, "--json").stdout)
    return found


def two_hubs(host: Host, settings: str) -> list[str]:
    found = [row["name"] for row in rows(host, settings) if row["workers"] == 1]
    return found if len(found) == 2 else []
