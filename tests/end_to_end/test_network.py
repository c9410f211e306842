"""A real network between computers and its faults: cut, one way, flapping; for a hub and for a client.

Each computer is a network namespace, joined to the core's by a cable that can be pulled (network.py). Hubs and
clients dial the core's Unix socket, so a forwarder at each end of the cable carries it over TCP, as ssh would.
NBLB_PARTITION_S=1 runs it with the default times (suspect after 5 s, lost after 15 s).
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nblb import launch
from nblb.launch.roles import hand_over
from nblb.system.core_file import read_core_file
from tests.end_to_end.network import Cable, Network, why_not
from tests.end_to_end.partition_rig import LEASE_S, SCALE, SLACK_S, TIMES, begun, elsewhere, hub, lines, process, run
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

PORT = "7000"
FLAPS = 20
HEAL_S = 60 + 4 * LEASE_S  # TCP doubles its patience with each packet that it sends again


@pytest.fixture(scope="module")
def _networks_can_be_made() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def network(_networks_can_be_made: None) -> Iterator[Network]:
    network = Network()
    try:
        yield network
    finally:
        network.close()


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | TIMES | {"WKHUB_WORKERS": [{"nWorkers": 1}]}


@pytest.fixture
def cluster(network: Network, parameters: Parameters) -> Iterator[Cluster]:
    """A core alone, on a computer of its own; we are its user there."""
    settings = str(hand_over(parameters))

    def run_there(*words: str) -> None:
        command = [sys.executable, "-m", "nblb", *words, "--parameters", settings]
        subprocess.run(network.at("core", command), check=True, capture_output=True)

    try:
        run_there("start", "--no-monitor", "--workers", "0")
        with contextlib.closing(launch.connect(parameters)) as cluster:
            yield cluster
    finally:
        run_there("stop")


class Tunnel:
    """A door of the core, held out on another computer."""

    def __init__(self, network: Network, computer: str) -> None:
        self.network, self.computer = network, computer
        self.cable: Cable = network.cable("core", computer)

    @contextlib.contextmanager
    def open(self, near: Path, far: Path, environment: dict[str, str]) -> Iterator[None]:
        """Forward the Unix socket `near`, there, to `far`, at the core's computer."""
        address = f"{self.cable.addresses[0]}:{PORT}"
        words = [sys.executable, "-m", "tests.end_to_end.forward"]
        with contextlib.ExitStack() as stack:
            for computer, ends in (("core", (address, str(far))), (self.computer, (str(near), address))):
                command = self.network.at(computer, [*words, *ends])
                one = stack.enter_context(process(command, environment, stdout=subprocess.PIPE))
                assert one.stdout is not None
                assert one.stdout.readline() == "listening\n"
            yield


@pytest.fixture
def far(network: Network, cluster: Cluster, parameters: Parameters, runtime_base: Path) -> Iterator[Cable]:
    """The cable to another computer, where a hub with one worker is."""
    tunnel = Tunnel(network, "far")
    with (
        elsewhere(parameters, runtime_base) as (folder, environment),
        tunnel.open(folder / "hubs.local", parameters.runtime_dir / "hubs.local", environment),
        hub(cluster, parameters, environment, network.at("far", [])),
    ):
        assert [row.host for row in cluster.hubs()] == ["far"]
        yield tunnel.cable


CUTS: dict[str, Callable[[Cable], None]] = {
    "cut": lambda cable: cable.cut(),
    "the core hears nothing": lambda cable: cable.silence(1),
    "the hub hears nothing": lambda cable: cable.silence(0),
}


@pytest.mark.timeout(120 + 10 * LEASE_S)
@pytest.mark.parametrize("cut", CUTS)
def test_the_work_of_a_computer_that_is_cut_off_is_done_elsewhere(
    cluster: Cluster, parameters: Parameters, far: Cable, tmp_path: Path, cut: str
) -> None:
    path = tmp_path / "runs"
    future = run.submit(str(path), 120)
    wait_until(lambda: lines(path), 20, "the task to begin there")
    launch.add_hub(parameters)
    cut_at = time.monotonic()
    CUTS[cut](far)
    wait_until(lambda: len(begun(path)) == 2, 2 * LEASE_S + SLACK_S, "the work to begin elsewhere")
    noticed_s = time.monotonic() - cut_at
    assert noticed_s <= LEASE_S + SLACK_S, f"it took {noticed_s:.1f} s"
    first, second = begun(path)
    wait_until(lambda: f"stop {first}" in lines(path), 2 * LEASE_S + SLACK_S, "the far hub to stop its attempt")
    stopped_s = time.monotonic() - cut_at
    far.mend()
    mended_at = time.monotonic()
    assert future.result(60) == second
    rounds = count()

    def works_there() -> bool:
        folder = tmp_path / f"{next(rounds)}"
        folder.mkdir()
        futures = [run.submit(str(folder / f"{n}"), 0.05) for n in range(4)]
        assert all(f"end {each.result(HEAL_S)}" in lines(folder / f"{n}") for n, each in enumerate(futures))
        return "far" in {each.host for each in futures}

    wait_until(works_there, HEAL_S, "the far hub to be back at work")
    back_s = time.monotonic() - mended_at
    assert future.attempt == 2
    assert f"end {first}" not in lines(path)
    print(
        f"{cut}: done elsewhere {noticed_s:.1f} s after it (lease {LEASE_S:g} s), own attempt stopped after "
        f"{stopped_s:.1f} s, back {back_s:.1f} s after it was mended"
    )


@pytest.mark.timeout(180 + 20 * LEASE_S)
def test_a_cable_that_flaps_loses_no_task_and_gives_none_twice(
    cluster: Cluster, parameters: Parameters, far: Cable, tmp_path: Path
) -> None:
    launch.add_hub(parameters)
    chance = random.Random(7)
    job = run.map([str(tmp_path / f"{n}") for n in range(200)], [0.05] * 200, chunksize=1)
    for _ in range(FLAPS):
        chance.choice(list(CUTS.values()))(far)
        time.sleep(chance.uniform(0, 0.5 * SCALE))
        far.mend()
        time.sleep(chance.uniform(0, 1 * SCALE))
    names = job.results(HEAL_S)
    for n, name in enumerate(names):
        assert f"end {name}" in lines(tmp_path / f"{n}")
    twice = sum(len(begun(tmp_path / f"{n}")) > 1 for n in range(200))
    assert cluster.attach(job.job_id).results(60) == names
    print(f"{FLAPS} flaps: 200 of 200 tasks done, {twice} of them begun twice, each accepted once")


CLIENT = """
import json, sys
import nblb as lb
from tests.end_to_end.partition_rig import run
with lb.connect(json.loads(sys.argv[1])) as cluster:
    job = run.map([f"{sys.argv[2]}/{n}" for n in range(60)], [0.05] * 60, chunksize=1, job="away")
    while not job.counts().get("DONE"):
        job.wait(0.05)
    print("some", flush=True)
    print(json.dumps(job.results(float(sys.argv[3]))), flush=True)
"""


@pytest.mark.timeout(120 + 10 * LEASE_S)
def test_a_client_that_was_cut_off_has_all_its_results(
    network: Network, cluster: Cluster, parameters: Parameters, runtime_base: Path, tmp_path: Path
) -> None:
    launch.add_hub(parameters)
    tunnel = Tunnel(network, "away")
    with elsewhere(parameters, runtime_base) as (folder, environment):
        core = read_core_file(parameters.connection_file)
        assert core is not None
        about = core.about | {"addresses": {"clients": f"ipc://{folder}/clients"}}
        (folder / "core.json").write_text(json.dumps(about))
        words = [json.dumps(parameters.as_dict()), str(tmp_path), str(HEAL_S)]
        command = network.at("away", [sys.executable, "-c", CLIENT, *words])
        with (
            tunnel.open(folder / "clients", parameters.runtime_dir / "clients", environment),
            process(command, environment, stdout=subprocess.PIPE) as client,
        ):
            assert client.stdout is not None
            assert client.stdout.readline() == "some\n"
            tunnel.cable.cut()
            done = "the job to be done without its client"
            wait_until(lambda: [r.counts.get("DONE") for r in cluster.jobs() if r.name == "away"] == [60], 60, done)
            time.sleep(1.1 * LEASE_S)  # longer than the core waits for anybody's word
            tunnel.cable.mend()
            said = [line for line in client.stdout if line.startswith("[")]
    names = json.loads(said[0])
    assert [begun(tmp_path / f"{n}") for n in range(60)] == [[name] for name in names]
    assert cluster.attach("away").results(60) == names
