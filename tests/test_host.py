"""The account, the cores and the processes of this computer are the same for every part of nblb."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nblb import host
from nblb.broker import load_balancer
from nblb.client.connection.locate import hello
from nblb.shared_files import transfer
from nblb.system import pids, processes
from tests.waiting import wait_until


def test_an_account_without_a_name_is_one_user_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    name = f"uid-{os.getuid()}"
    assert host.account() == name
    assert hello().user == name
    assert load_balancer.account() == name  # who clients of the JSON door act as


def test_a_process_of_another_account_is_alive_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, number: int) -> None:
        raise PermissionError

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        began = host.began(other.pid)
        monkeypatch.setattr(os, "kill", refused)
        assert host.is_alive(other.pid)
        assert pids.is_alive(other.pid)
        mark = host.boot_mark()
        assert not processes.has_ended(f"{mark}-{other.pid}-x")
        assert not transfer.has_ended(f"{mark}{other.pid:08x}{began or 0:012x}{0:016x}")
        assert transfer.has_ended(f"{mark}{other.pid:08x}{(began or 0) + 1:012x}{0:016x}") == (began is not None)
        monkeypatch.undo()
        other.kill()


@pytest.mark.skipif(host.began(os.getpid()) is None, reason="this system does not tell when a process began")
def test_a_number_that_was_given_away_again_is_another_process() -> None:
    began = host.began(os.getpid())
    assert began
    assert host.is_alive(os.getpid(), began)
    assert not host.is_alive(os.getpid(), began - 1)


def test_a_zombie_and_a_number_that_no_process_can_have_are_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        wait_until(lambda: not host.is_alive(child.pid), 10, "the zombie to count as ended")
    assert not host.is_alive(2**70)


def test_as_many_cores_as_this_process_may_use() -> None:
    assert 1 <= host.cores() <= (os.cpu_count() or 1)


def test_sockets_are_beside_the_state_folder_where_they_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two computers may share a disk, but not its sockets; a path may have 107 bytes."""
    place = Path("/tmp/s")
    assert host.socket_folder(place, "n").parent == place.parent
    assert host.socket_folder(place, "n") != host.socket_folder(place.with_name("t"), "n")
    monkeypatch.setattr(host, "_is_private", lambda folder: folder.parent != place.parent)
    assert host.socket_folder(place, "n").parent == place, "nothing can be made beside it"
    monkeypatch.undo()
    assert host.why_no_sockets(Path("/tmp") / ("ä" * 40)).startswith("its path is too long")
    assert host.why_no_sockets(Path("/tmp/\udcff")) == "its path is not text"
    link = tmp_path / "link"
    link.symlink_to(place)
    assert host.socket_folder(link, "n") == host.socket_folder(place, "n")
    monkeypatch.setattr(host, "_file_system", lambda _: "nfs4")
    assert "nfs4" in host.why_no_sockets(place)
    elsewhere = host.socket_folder(place, "n" * 64)
    assert elsewhere.parent == host.short_folder()
    assert len(str(elsewhere / ("x" * host.LONGEST_SOCKET_NAME))) <= host.LONGEST_SOCKET_PATH
    monkeypatch.setattr(os, "getuid", lambda: 4_294_967_294)
    assert len(str(host.socket_folder(place, "n" * 64))) + 37 <= host.LONGEST_SOCKET_PATH


def test_a_short_folder_that_another_account_has_made_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bases = [tmp_path / name for name in ("missing", "linked", "ours")]
    for base in bases[1:]:
        base.mkdir()
    (bases[1] / f"nblb-{os.getuid()}").symlink_to(tmp_path)
    monkeypatch.setattr(host, "SHORT_FOLDERS", tuple(map(str, bases)))
    assert host.short_folder() == bases[2] / f"nblb-{os.getuid()}"


@pytest.mark.parametrize(
    "job",
    [
        {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1"},
        {"PBS_JOBID": "7.lab", "NCPUS": "1"},
        {"LSB_JOBID": "7", "LSB_DJOB_NUMPROC": "1"},
        {"SGE_TASK_ID": "undefined", "NSLOTS": "1"},
    ],
)
def test_a_batch_job_has_the_cores_that_it_was_given(job: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (name for pair in host.JOBS.items() for name in pair):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(64), raising=False)
    monkeypatch.setattr(host.cgroup, "cores", lambda: 64.0)
    assert host.cores() == 64
    number = list(job)[1]
    monkeypatch.setenv(number, "1")
    assert host.cores() == 64, "somebody has set that variable outside a job"
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    assert host.cores() == 1
    monkeypatch.setenv(number, "1000")
    assert host.cores() == 64
    monkeypatch.setenv(number, "many")
    assert host.cores() == 64
