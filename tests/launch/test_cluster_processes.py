"""Starting, finding and stopping the processes of a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nblb import launch
from nblb.broker.journal.state_folder import StateFolder
from nblb.errors import LoadBalancerUnreachable, NblbError, ParametersError
from nblb.launch import cluster_processes, readiness, roles
from nblb.launch.presence import RoleLock, present
from nblb.system import pids
from nblb.system.core_file import CoreFile, read_core_file
from nblb.system.private_folder import runtime_folder
from tests.conftest import nblb_processes
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


@pytest.fixture
def stopped(parameters: Parameters) -> Iterator[None]:
    """Whatever the test starts is stopped."""
    yield
    launch.stop(parameters)


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


# ── presence ────────────────────────────────────────────────────────────────────────────────────────────────


def test_presence_is_seen_while_held_and_only_then(parameters: Parameters) -> None:
    folder = runtime_folder(parameters)
    here = RoleLock(folder, "hub")
    assert here.take()
    here.say(url="http://x")
    [one] = present(folder, "hub")
    assert (one.role, one.pid, one.about["url"]) == ("hub", os.getpid(), "http://x")
    assert present(folder, "health") == []
    assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
    here.leave()
    assert present(folder) == []
    assert not one.path.exists()


def test_only_one_of_a_lone_role(parameters: Parameters) -> None:
    folder = runtime_folder(parameters)
    first, second = RoleLock(folder, "health", alone=True), RoleLock(folder, "health", alone=True)
    assert first.take()
    assert not second.take()
    first.leave()
    assert second.take()
    second.leave()


def test_a_presence_handed_over_ends_with_its_heir(parameters: Parameters) -> None:
    folder = runtime_folder(parameters)
    here = RoleLock(folder, "health", alone=True)
    assert here.take(for_child=True)
    assert present(folder) == []  # else whoever stops the cluster at this moment ends its starter, a notebook perhaps
    assert not RoleLock(folder, "health", alone=True).take()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(here.file,))
    here.hand_over(child.pid)
    assert [one.pid for one in present(folder)] == [child.pid]
    assert not RoleLock(folder, "health", alone=True).take()
    child.kill()
    child.communicate()
    assert present(folder) == []


def test_a_file_that_nobody_holds_is_removed(parameters: Parameters) -> None:
    folder = runtime_folder(parameters)
    (folder / "hub-7.here").write_text(json.dumps({"role": "hub", "pid": os.getpid()}))
    assert present(folder) == []
    assert not (folder / "hub-7.here").exists()


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: not pids.is_alive(child.pid), 10, "the zombie to be seen as dead")
    child.wait()


def test_end_kills_what_does_not_want_to_go() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    pids.end([child.pid], 0.1)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


def test_a_stale_core_file_is_recognised(parameters: Parameters) -> None:
    pid = dead_pid()
    about = {"pid": pid, "host": socket.gethostname(), "addresses": {"clients": "ipc:///nowhere"}}
    (runtime_folder(parameters) / "core.json").write_text(json.dumps(about))
    core = read_core_file(parameters.connection_file)
    assert core is not None
    assert core.stale == f"core pid {pid} on this host is gone"
    with pytest.raises(LoadBalancerUnreachable, match=rf"core pid {pid} on this host is gone .*%lb_start"):
        launch.connect(parameters)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's program."""
    child = subprocess.Popen(["sleep", "300"])
    yield child
    assert child.poll() is None, "nobody ends another's program"
    child.kill()
    child.wait()


ANOTHER_BOOT = f"00000000{1:08x}{2:028x}"


@pytest.mark.parametrize("process", ["of a dead one", "of another boot", "of an older nblb"])
def test_a_pid_that_another_program_has_been_given(
    parameters: Parameters, stranger: subprocess.Popen[bytes], stopped: None, process: str
) -> None:
    launch.start(parameters, workers=0, monitor=False).close()
    there = present(parameters.runtime_dir)
    for one in there:
        os.kill(one.pid, signal.SIGKILL)
    pids.wait_gone([one.pid for one in there], 5)
    about = json.loads(parameters.connection_file.read_text()) | {"pid": stranger.pid}
    if process == "of another boot":
        about["process"] = ANOTHER_BOOT
    elif process == "of an older nblb":
        del about["process"]
    parameters.connection_file.write_text(json.dumps(about))
    with pytest.raises(LoadBalancerUnreachable, match="is gone"):
        launch.connect(parameters)
    with launch.start(parameters, workers=0, monitor=False) as cluster:
        assert cluster.status()["pid"] != stranger.pid


@pytest.mark.parametrize("process", ["of another boot", "of an older nblb"])
def test_a_core_that_lives_is_seen_by_its_lock(cluster: Cluster, parameters: Parameters, process: str) -> None:
    core = read_core_file(parameters.connection_file)
    assert core is not None
    about = {**core.about, "process": ANOTHER_BOOT if process == "of another boot" else ""}
    assert CoreFile(core.path, about).stale == ""


def test_nothing_is_killed_that_has_got_the_number_of_a_process_that_ended(
    monkeypatch: pytest.MonkeyPatch, stranger: subprocess.Popen[bytes]
) -> None:
    ages = iter([1])
    monkeypatch.setattr(pids.host, "began", lambda _pid: next(ages, 2))
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _pid, number: sent.append(number))
    pids.end([stranger.pid], 0.05)
    monkeypatch.undo()
    assert signal.SIGKILL not in sent


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_parameters_are_handed_over_in_private(parameters: Parameters) -> None:
    from nblb.parameters import load

    path = roles.hand_over(parameters)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load(path).runtime_dir == parameters.runtime_dir


def test_a_long_log_is_set_aside(parameters: Parameters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "LOG_BYTES", 10)
    log = roles._open_log(parameters, "core")
    log.write_text("x" * 20)
    assert roles._open_log(parameters, "core").stat().st_size == 0
    assert log.with_suffix(".log.1").read_text() == "x" * 20


def test_a_role_that_dies_says_why(parameters: Parameters, stopped: None) -> None:
    started = cluster_processes.Started(parameters)
    cluster_processes.ensure_core(parameters, started)
    with pytest.raises(NblbError, match=r"(?s)the hub ended while it started \(exit code 2\).*unrecognized arguments"):
        cluster_processes.start_hub(parameters, 1, started, ("--nonsense",))


# ── a cluster ───────────────────────────────────────────────────────────────────────────────────────────────


def test_connect_to_none(parameters: Parameters) -> None:
    with pytest.raises(LoadBalancerUnreachable, match=rf"'t'.*{parameters.connection_file}.*nblb start"):
        launch.connect(parameters)


@pytest.mark.parametrize("workers", [-1, 1.5, "two"])
def test_a_wrong_number_of_workers_starts_nothing(parameters: Parameters, workers: Any) -> None:
    with pytest.raises(ParametersError, match="workers is"):
        launch.start(parameters, workers=workers)
    wait_until(lambda: not nblb_processes(), 10, "all to be gone")


def test_start_twice_finds_the_running_one(cluster: Cluster, parameters: Parameters) -> None:
    before = {one.pid for one in present(parameters.runtime_dir)}
    again = launch.start(parameters, monitor=False)
    assert {one.pid for one in present(parameters.runtime_dir)} == before
    assert len(again.hubs()) == 1
    again.close()


def test_start_replaces_a_dead_hub_and_a_dead_core(cluster: Cluster, parameters: Parameters) -> None:
    for role in ("hub", "core"):
        [old] = present(parameters.runtime_dir, role)
        os.kill(old.pid, signal.SIGKILL)
        pids.wait_gone([old.pid], 5)
        again = launch.start(parameters, monitor=False)
        [new] = present(parameters.runtime_dir, role)
        assert new.pid != old.pid
        again.close()


def test_racing_starters_end_with_one_core_and_one_hub(parameters: Parameters, stopped: None) -> None:
    code = "import nblb, sys, json; nblb.start(json.loads(sys.argv[1]), monitor=False).close()"
    words = [sys.executable, "-c", code, json.dumps(parameters.as_dict())]
    racers = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for racer in racers:
        _, said = racer.communicate(timeout=60)
        assert racer.returncode == 0, said
    assert sorted(one.role for one in present(parameters.runtime_dir)) == ["core", "health", "hub"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_five_starters_while_the_old_core_is_dying(parameters: Parameters, stopped: None, end: signal.Signals) -> None:
    launch.start(parameters, monitor=False).close()
    [old] = present(parameters.runtime_dir, "core")
    code = "import nblb, sys, json; c = nblb.start(json.loads(sys.argv[1]), monitor=False); print(c.status()['pid'])"
    words = [sys.executable, "-c", code, json.dumps(parameters.as_dict())]
    racers = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(5)]
    os.kill(old.pid, end)
    answers = [racer.communicate(timeout=90) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 5, answers
    assert len({told for told, _ in answers}) == 1, "one core for all"
    assert answers[0][0] != f"{old.pid}\n"
    # The old core's Health Check may have been about to follow it when it was found.
    assert sorted(one.role for one in present(parameters.runtime_dir) if one.role != "health") == ["core", "hub"]


def test_a_core_that_closes_slowly_is_waited_for(parameters: Parameters, stopped: None) -> None:
    folder = StateFolder(parameters.state_dir, "the old one")  # its file is gone, and it still writes
    threading.Timer(1.5, folder.close).start()
    with launch.start(parameters, workers=0, monitor=False) as cluster:
        assert cluster.status()["workers"] == 0


def test_a_state_folder_that_another_keeps_is_an_error_that_names_it(
    parameters: Parameters, stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_processes, "OTHER_CORE_S", 0.2)
    folder = StateFolder(parameters.state_dir, "the old one")
    with pytest.raises(NblbError, match=r"state folder .* is in use by the core 'the old one' \(pid \d+\)"):
        launch.start(parameters, workers=0, monitor=False)
    folder.close()


def test_cores_that_race_without_the_starters_lock(parameters: Parameters, stopped: None) -> None:
    racers = [roles.spawn("core", parameters, log_name=f"core-{n}") for n in range(3)]
    started = cluster_processes.Started(parameters, [])
    address = cluster_processes.ensure_core(parameters, started)
    assert launch.one_shot.ask(address, "status")["hubs"] == 0
    everybody = {process.pid: process for process in [*racers, *started.processes]}.values()
    wait_until(lambda: sum(process.is_alive() for process in everybody) == 1, 10, "one core to be left")
    losers = [process for process in racers if not process.is_alive()]
    assert [loser.exitcode for loser in losers] == [readiness.RUNS_ALREADY] * len(losers)


def test_with_stops_what_it_started_and_only_that(parameters: Parameters, stopped: None) -> None:
    with launch.start(parameters, monitor=False) as outer:
        with launch.start(parameters, monitor=False):
            pass
        assert outer.status()
        assert len(outer.hubs()) == 1
    wait_until(lambda: not nblb_processes(), 10, "all to be gone")
    assert not parameters.runtime_dir.exists()


def test_stop_leaves_nothing_even_when_the_core_is_dead(cluster: Cluster, parameters: Parameters) -> None:
    [core] = present(parameters.runtime_dir, "core")
    os.kill(core.pid, signal.SIGKILL)
    assert launch.stop(parameters)
    wait_until(lambda: not nblb_processes(), 10, "all to be gone")
    assert not parameters.runtime_dir.exists()
    assert not launch.stop(parameters)


def test_stop_ends_a_core_that_hangs(cluster: Cluster, parameters: Parameters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_processes, "STOP_GRACE_S", 0.3)
    [core] = present(parameters.runtime_dir, "core")
    os.kill(core.pid, signal.SIGSTOP)
    assert launch.stop(parameters)
    wait_until(lambda: not nblb_processes(), 10, "all to be gone")


def test_roles_end_in_good_order_on_sigterm(cluster: Cluster, parameters: Parameters) -> None:
    cluster.close()
    wait_until(lambda: present(parameters.runtime_dir, "health")[0].about.get("checked"), 20, "the Health Check")
    for role in ("hub", "health", "core"):
        [one] = present(parameters.runtime_dir, role)
        os.kill(one.pid, signal.SIGTERM)
        assert pids.wait_gone([one.pid], 5) == []
        child = pids.children.get(one.pid)
        assert child is None or child.returncode == 0
    assert not parameters.connection_file.exists()


def test_a_companion_follows_a_core_that_said_goodbye(cluster: Cluster, parameters: Parameters) -> None:
    [health] = present(parameters.runtime_dir, "health")
    [core] = present(parameters.runtime_dir, "core")
    os.kill(core.pid, signal.SIGTERM)
    assert pids.wait_gone([core.pid, health.pid], 15) == []


def test_no_signal_handler_is_taken_and_any_thread_may_start(parameters: Parameters, stopped: None) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    clusters: list[Cluster] = []
    thread = threading.Thread(target=lambda: clusters.append(launch.start(parameters, workers=0, monitor=False)))
    thread.start()
    thread.join(60)
    assert clusters
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with contextlib.closing(clusters[0]):
        assert clusters[0].hubs() == []


def test_processes_are_detached(cluster: Cluster, parameters: Parameters) -> None:
    for one in present(parameters.runtime_dir):
        assert os.getsid(one.pid) == one.pid != os.getsid(0)
        assert Path(f"/proc/{one.pid}/fd/0").resolve() == Path(os.devnull)


def test_a_core_of_another_computer_with_the_same_folder_is_left_alone(parameters: Parameters, stopped: None) -> None:
    """Its pid and its processes' are other programs' here."""
    folder = StateFolder(parameters.state_dir, parameters.name)
    about = {
        "name": "t",
        "pid": os.getpid(),
        "host": "elsewhere",
        "state_dir": str(parameters.state_dir),
        "runtime_dir": str(parameters.runtime_dir),
        "addresses": {"clients_local": f"unix://{parameters.runtime_dir}/clients.local"},
    }
    folder.record(about)
    try:
        for use in (launch.stop, launch.start):
            with pytest.raises(
                LoadBalancerUnreachable, match=r"the core 't' \(pid \d+\) runs on the computer elsewhere"
            ):
                use(parameters)
    finally:
        folder.close()
    (runtime_folder(parameters) / "core.json").write_text(json.dumps(about))
    with launch.start(parameters, workers=0, monitor=False) as cluster:  # it has ended: the lock is free
        assert cluster.status().core.pid != os.getpid()
