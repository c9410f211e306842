"""Hubs as jobs of a real Slurm with two nodes, which this computer runs for the test (tests/slurm.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nblb as lb
from nblb import launch
from nblb.errors import NblbError
from nblb.launch.batch import hubs
from nblb.launch.presence import present
from tests import slurm
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

pytestmark = [
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "-"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]
OPTIONS = "--partition=main --time=10 --mem=500 --cpus-per-task=1"


@pytest.fixture(scope="module")
def batch_system() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    with slurm.running() as variables:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield
        assert jobs() == {}, "jobs are left"
    patch.undo()


def jobs() -> dict[str, str]:
    """The jobs that have not ended, and their states."""
    said = subprocess.run(["squeue", "-h", "-o", "%i %T"], capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in said.splitlines())


@pytest.fixture
def listening(parameters: Parameters, batch_system: None) -> Parameters:
    """The parameters of a core that the nodes can reach."""
    return parameters.changed(LB_IP=slurm.address(), LB_WKPULLPORT=0, LB_CLIENTPULLPORT=0, LB_HCREPPORT=0)


@pytest.fixture
def cluster(listening: Parameters) -> Iterator[Cluster]:
    with lb.start(listening, workers=0, monitor=False) as cluster:
        yield cluster
    wait_until(lambda: not jobs(), what="the end of the jobs")
    assert not list((listening.state_dir / hubs.FOLDER).glob("*.jobs"))


def wait_for_hubs(cluster: Cluster, number: int) -> None:
    wait_until(lambda: sum(hub.workers > 0 for hub in cluster.hubs()) == number, 60, f"{number} hubs with workers")


def test_hubs_run_tasks_and_end_with_the_cluster(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    process = cluster.add_hub(slurm=OPTIONS, hubs=2, workers=2)
    assert "to start at" in capsys.readouterr().out  # the answer of the dry run
    wait_for_hubs(cluster, 2)
    assert lb.task(abs).map(range(-1000, 0)).results() == list(range(1000, 0, -1))
    assert {hub.batch_job for hub in cluster.hubs()} == {f"slurm {job}" for job in jobs()}
    assert all(0 < hub.left_s < 600 for hub in cluster.hubs())  # type: ignore[operator]
    key = next((cluster.parameters.state_dir / hubs.FOLDER).glob("*.hub.json"))
    assert key.stat().st_mode & 0o777 == 0o600
    pids = [hub.pid for hub in cluster.hubs()]
    cluster.stop()
    assert not process.is_alive()
    assert not jobs()
    assert not [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and b"nblb" in _cmdline(pid)]


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_output_progress_and_kill_work_as_on_any_hub(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_hub(slurm=OPTIONS, workers=1)
    wait_for_hubs(cluster, 1)

    @lb.task
    def stubborn() -> None:
        import time

        print("it began")
        lb.progress(0.5, "half")
        while True:
            try:
                time.sleep(0.1)
            except BaseException:
                pass

    future = stubborn.submit()
    wait_until(lambda: "it began" in future.output(), 30, "the output")
    wait_until(lambda: future.progress == 0.5, 30, "the progress")
    future.cancel(kill=True)
    assert lb.task(abs).submit(-3).result(60) == 3


def test_a_wrong_account_or_partition_is_told_at_once(cluster: Cluster) -> None:
    with pytest.raises(NblbError, match=r"refuses such a job .*--partition=none.*: .*[Ii]nvalid partition"):
        cluster.add_hub(slurm="--partition=none")
    assert present(cluster.parameters.runtime_dir, hubs.ROLE) == []


def test_a_core_that_nodes_cannot_reach_is_told_at_once(parameters: Parameters, batch_system: None) -> None:
    with (
        lb.start(parameters, workers=0, monitor=False) as cluster,
        pytest.raises(NblbError, match="listens for this computer only"),
    ):
        cluster.add_hub(slurm=OPTIONS)


def test_the_card_says_what_waits_and_a_stop_cancels_it(cluster: Cluster) -> None:
    cluster.add_hub(slurm=f"{OPTIONS} --begin=now+1hour", hubs=3, backlog=2)
    wait_until(lambda: any("2 hubs wait in Slurm: BeginTime" in note for note in cluster.notes), 60, "the note")
    (note,) = [note for note in cluster.notes if "Slurm" in note]
    assert "first expected " in note
    assert len(jobs()) == 2  # no more than the backlog


def test_groups_of_the_parameters(listening: Parameters) -> None:
    group = {"nWorkers": 1, "minP": 5, "launcher": "slurm", "options": {"sbatch": OPTIONS, "hubs": 2}}
    chosen = listening.changed(WKHUB_WORKERS=[{"nWorkers": 1, "maxP": 5}, group])
    with lb.start(chosen, monitor=False) as cluster:
        wait_for_hubs(cluster, 3)
        bands = sorted((hub.batch_job != "", hub.groups[0]["minP"], hub.workers) for hub in cluster.hubs())
        assert bands == [(False, 0, 1), (True, 5, 1), (True, 5, 1)]
    wait_until(lambda: not jobs(), what="the end of the jobs")


def test_jobs_end_when_their_core_is_killed(listening: Parameters) -> None:
    chosen = listening.changed(LB_ORPHAN_S=4)
    with lb.start(chosen, workers=0, monitor=False) as cluster:
        process = cluster.add_hub(slurm=OPTIONS, workers=1)
        wait_for_hubs(cluster, 1)
        for one in present(chosen.runtime_dir):
            if one.role in ("core", hubs.ROLE):
                os.kill(one.pid, signal.SIGKILL)
        wait_until(lambda: not process.is_alive() and not jobs(), 60, "the end of the job")
    launch.stop(chosen)  # removes the sockets of the killed core


def test_a_stop_cancels_the_jobs_of_a_killed_launcher(listening: Parameters) -> None:
    with lb.start(listening, workers=0, monitor=False) as cluster:
        process = cluster.add_hub(slurm=f"{OPTIONS} --begin=now+1hour")
        wait_until(jobs, 60, "the job")
        wait_until(lambda: any("Slurm" in note for note in cluster.notes), 60, "its note")
        process.kill()
        process.join(10)
        assert jobs()
    wait_until(lambda: not jobs(), what="the end of the job")


def test_the_next_launcher_goes_on_with_the_jobs_of_a_killed_one(cluster: Cluster) -> None:
    first = cluster.add_hub(slurm=OPTIONS, workers=1)
    wait_for_hubs(cluster, 1)
    before = jobs()
    first.kill()
    first.join(10)
    cluster.add_hub(slurm=OPTIONS, workers=1)
    wait_until(lambda: len(present(cluster.parameters.runtime_dir, hubs.ROLE)) == 1, 60, "the next launcher")
    time.sleep(2)  # in which a second job would be submitted
    assert jobs() == before


def test_walltime_loses_nothing_and_cuts_no_task_twice(listening: Parameters, tmp_path: Path) -> None:
    """Jobs of one minute, which is Slurm's least; more work than fits into the first two."""
    with lb.start(listening, workers=0, monitor=False) as cluster:
        cluster.add_hub(slurm="--partition=main --time=1 --mem=500", hubs=2, workers=4)
        wait_for_hubs(cluster, 2)
        starts = tmp_path / "starts"
        starts.mkdir()

        @lb.task(retries=0)
        def slow(number: int) -> int:
            import time
            import uuid

            (starts / f"{number}-{uuid.uuid4().hex}").touch()
            time.sleep(3)
            return number

        job = slow.map(range(200))
        assert job.results() == list(range(200))
        begun = [path.name.partition("-")[0] for path in starts.iterdir()]
        assert max(begun.count(name) for name in set(begun)) <= 2
    wait_until(lambda: not jobs(), what="the end of the jobs")


def test_the_command_line_keeps_hubs_until_it_is_ended(cluster: Cluster) -> None:
    settings = cluster.parameters.runtime_dir / "parameters.json"
    assert json.loads(settings.read_text())["LB_IP"] == slurm.address()
    command = [sys.executable, "-m", "nblb", "hub", "-p", str(settings), "--slurm", OPTIONS, "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for_hubs(cluster, 1)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(30) == 0, said
    assert "Slurm has taken job" in said
    assert "has ended" in said
    wait_until(lambda: not jobs(), what="the end of the job")
