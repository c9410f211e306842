"""Hubs over ssh from the start to the end, with a stand-in for ssh that runs everything on this computer."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import nblb as lb
from nblb import launch
from nblb.errors import NblbError
from nblb.launch import one_shot
from nblb.launch.cluster_processes import StopWarning
from nblb.launch.presence import present
from nblb.launch.ssh import hosts, remote_agent
from nblb.protocol.messages import RemoveHub
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nblb.client.cluster import Cluster
    from nblb.launch.ssh.hosts import RemoteHubProcess
    from nblb.parameters import Parameters

FOLDERS = Path(f"/tmp/nblb-{os.getuid()}")


def folders() -> set[Path]:
    """The folders of hubs that were started over ssh, and the ends of tunnels."""
    return {*FOLDERS.glob("hub-*"), *Path("/tmp").glob("nblb-*.sock")}


@pytest.fixture
def cluster(parameters: Parameters, fake_ssh: str) -> Iterator[Cluster]:
    """A core without a hub here; what hubs leave behind elsewhere is an error."""
    before = folders()
    with lb.start(parameters, workers=0, monitor=False) as cluster:
        yield cluster
    assert folders() <= before


def ssh_of(process: RemoteHubProcess) -> psutil.Process:
    """The ssh that a process here runs."""
    return next(iter(psutil.Process(process.pid).children()))


def test_a_hub_runs_tasks_and_ends_with_the_cluster(
    cluster: Cluster, fake_ssh: str, capsys: pytest.CaptureFixture[str]
) -> None:
    process = cluster.add_hub(host="lab2", workers=2, python=fake_ssh)
    assert "lab2: " in capsys.readouterr().out
    assert process.host == "lab2"
    assert process.differences == ()
    assert lb.task(abs).map(range(-1000, 0)).results() == list(range(1000, 0, -1))
    (hub,) = cluster.hubs()
    assert hub.workers == 2
    assert "connected to the Load Balancer" in process.log.read_text()  # the hub's own log comes here
    cluster.stop()
    assert not psutil.pid_exists(hub.pid) or psutil.Process(hub.pid).status() == psutil.STATUS_ZOMBIE
    assert not process.is_alive()


def test_a_lost_connection_ends_neither_the_hub_nor_its_tasks(cluster: Cluster, fake_ssh: str, tmp_path: Path) -> None:
    process = cluster.add_hub(host="lab2", workers=1, python=fake_ssh)
    (hub,) = cluster.hubs()
    begun, end = tmp_path / "begun", tmp_path / "end"

    @lb.task(retries=0, at_most_once=True)
    def wait() -> str:
        import time

        begun.touch()
        while not end.exists():
            time.sleep(0.01)
        return "done"

    future = wait.submit()
    wait_until(begun.exists, what="the start of the task")
    ssh = ssh_of(process)
    ssh.kill()
    wait_until(lambda: any("is lost" in note for note in cluster.notes), what="the note on the loss")
    wait_until(lambda: not cluster.notes, what="the connection")
    end.touch()
    assert future.result(60) == "done"
    assert [row.pid for row in cluster.hubs()] == [hub.pid]
    assert "is lost" in process.log.read_text()


def test_a_hub_that_is_killed_is_reported(cluster: Cluster, fake_ssh: str) -> None:
    process = cluster.add_hub(host="lab2", workers=1, python=fake_ssh)
    (hub,) = cluster.hubs()
    os.kill(hub.pid, signal.SIGKILL)
    wait_until(lambda: not process.is_alive(), what="the end of the process that kept it")
    assert "has ended: killed by SIGKILL" in process.log.read_text()


def test_another_process_takes_the_place_of_one_that_was_killed(
    cluster: Cluster, parameters: Parameters, fake_ssh: str
) -> None:
    """The hub outlives the process that kept it; the next one finds it and starts no other."""
    first = cluster.add_hub(host="lab2", workers=1, python=fake_ssh)
    (hub,) = cluster.hubs()
    first.kill()
    first.join(10)
    second = cluster.add_hub(host="lab2", workers=1, python=fake_ssh)
    assert [row.pid for row in cluster.hubs()] == [hub.pid]
    assert "runs on" in second.log.read_text()
    third = cluster.add_hub(host="lab2", workers=1, python=fake_ssh)
    assert len(cluster.hubs()) == 2
    assert third.log != second.log


def test_terminate_ends_the_hub_and_removes_its_folder(cluster: Cluster, fake_ssh: str) -> None:
    before = folders()
    process = cluster.add_hub(host="lab2", workers=1, python=fake_ssh)
    assert len(folders() - before) == 1
    process.terminate()
    wait_until(lambda: not cluster.hubs(), what="the end of the hub")
    process.join(20)
    assert folders() == before


def test_stop_says_what_it_could_not_end(
    cluster: Cluster, parameters: Parameters, fake_ssh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folders()
    process = cluster.add_hub(host="lab2", workers=1, python=fake_ssh)
    (hub,) = cluster.hubs()
    left = folders() - before
    script = Path(os.environ["NBLB_SSH"])
    os.kill(hub.pid, signal.SIGSTOP)  # so that the core's order does not reach it
    script.write_text("#!/bin/sh\necho 'ssh: connect to host lab2: No route to host' >&2; exit 255\n")
    ssh_of(process).kill()
    try:
        with pytest.warns(StopWarning, match="the hub on lab2 .* could not be reached and may still run"):
            launch.stop(parameters)
    finally:
        os.kill(hub.pid, signal.SIGKILL)
        wait_until(lambda: _has_swept(left), what="the end of the hub")
    assert not present(parameters.runtime_dir)


def _has_swept(left: set[Path]) -> bool:
    """Remove the folders of hubs that have ended; return True if there is no other of these."""
    for folder in left:
        if (folder / "hub.exit").exists():  # written last
            shutil.rmtree(folder)
    return not any(folder.exists() for folder in left)


def test_hosts_of_the_parameters_start_with_the_core(parameters: Parameters, fake_ssh: str) -> None:
    entry = {"host": "lab2", "workers": 1, "python": fake_ssh}
    chosen = parameters.changed(WKHUB_HOSTS=[entry, entry])
    before = folders()
    with lb.start(chosen, workers=0, monitor=False) as cluster:
        wait_until(lambda: cluster.status().workers == 2, what="the hubs of WKHUB_HOSTS")
        with lb.start(chosen, workers=0, monitor=False) as again:  # finds them
            assert len(again.hubs()) == 2
        assert len(present(chosen.runtime_dir, hosts.ROLE)) == 2
        assert len(cluster.hubs()) == 2
        assert cluster.notes == []
    assert folders() <= before


def test_a_host_that_is_away_is_a_note_and_prevents_no_start(parameters: Parameters, fake_ssh: str) -> None:
    chosen = parameters.changed(WKHUB_HOSTS=["nobody@lab2"])
    with lb.start(chosen, workers=0, monitor=False) as cluster:
        (note,) = wait_until(lambda: cluster.notes, what="the note")
        assert "nobody@lab2 cannot be reached by ssh: nobody: Permission denied" in note
        assert lb.task(abs).submit(-1).state  # the cluster is there


def test_a_host_without_nblb_is_a_note(parameters: Parameters, fake_ssh: str) -> None:
    chosen = parameters.changed(WKHUB_HOSTS=[{"host": "lab2", "python": "/usr/bin/env -i python3 -S"}])
    with lb.start(chosen, workers=0, monitor=False) as cluster:
        wait_until(lambda: any("nblb is not installed" in note for note in cluster.notes), what="the note")


def test_what_cannot_be_reached_is_an_error_at_once(cluster: Cluster, fake_ssh: str) -> None:
    with pytest.raises(NblbError, match=r"nobody@lab2 cannot be reached by ssh: .*set up a key"):
        cluster.add_hub(host="nobody@lab2", python=fake_ssh)
    with pytest.raises(NblbError, match=r"the host is '-x'; it must be a name for ssh"):
        cluster.add_hub(host="-x")
    with pytest.raises(TypeError, match="which host= names"):
        cluster.add_hub(python="python3")


def _wheel(name: str, folder: Path) -> None:
    """Make a wheel of a package that is installed here."""
    found = importlib.metadata.distribution(name)
    files = {file: Path(str(found.locate_file(file))) for file in found.files or () if ".." not in file.parts}
    tags = [line.split()[1] for line in str(found.read_text("WHEEL")).splitlines() if line.startswith("Tag:")]
    with zipfile.ZipFile(folder / f"{name}-{found.version}-{tags[0]}.whl", "w") as wheel:
        for file, path in files.items():
            if path.is_file() and "__pycache__" not in file.parts:
                wheel.write(path, str(file))


BARE = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
LACKS = subprocess.run([BARE, "-c", "import ensurepip"], capture_output=True).returncode if BARE.exists() else 1


@pytest.mark.slow
@pytest.mark.skipif(LACKS != 0, reason="the interpreter below this environment has no ensurepip")
def test_an_environment_is_made_where_nblb_is_missing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(name for name in remote_agent.PACKAGES if name != "numpy")  # which takes most of the time
    monkeypatch.setattr(remote_agent, "PACKAGES", few)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in remote_agent.PACKAGES:
        _wheel(name, wheels)
    settings = f"PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} PIP_NO_COMPILE=1 XDG_DATA_HOME={tmp_path}/data"
    python = f"env -u PYTHONPATH {settings} {BARE}"
    with pytest.raises(NblbError, match="nblb is not installed"):
        cluster.add_hub(host="lab2", workers=1, python=python)
    process = cluster.add_hub(host="lab2", workers=1, python=python, make_venv=True)
    assert [row.what for row in process.differences] == ["numpy"]
    (made,) = (tmp_path / "data" / "nblb" / "environments").iterdir()

    @lb.task
    def interpreter() -> str:
        import sys

        return sys.prefix

    assert interpreter.submit().result(60) == str(made)


def test_a_hub_that_starts_again_stays_the_same_for_its_keeper(cluster: Cluster, fake_ssh: str) -> None:
    """The Monitor's restart replaces the process of a hub by a new one with the same pid."""
    process = cluster.add_hub(host="lab2", workers=1, python=fake_ssh)
    (hub,) = cluster.hubs()
    one_shot._question(cluster.address, RemoveHub(request=1, hub=hub.hub, restart=True), 10.0)
    wait_until(lambda: [row.hub for row in cluster.hubs() if row.hub != hub.hub and row.workers], what="the new hub")
    assert [row.pid for row in cluster.hubs()] == [hub.pid]
    assert process.is_alive()
    assert lb.task(abs).submit(-1).result(60) == 1
