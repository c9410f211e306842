"""A living core is found whatever is removed beside it and whatever the environment says, and is the only one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nblb as lb
from nblb import launch
from nblb.launch.presence import present
from nblb.launch.roles import SETTINGS, started_with
from nblb.parameters import Parameters, load
from nblb.system.core_file import read_core_file
from nblb.system.state_mark import MARK
from tests.waiting import wait_until

SOON_S = 10.0  # until files that were removed are there again, on a busy machine


@pytest.fixture(params=["in the state folder", "elsewhere"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A state folder whose path is short enough for sockets, or one of 95 bytes."""
    base = Path(tempfile.mkdtemp(prefix="nb", dir="/tmp"))
    folder = base / "ä b"
    if request.param == "elsewhere":
        folder = base / ("s" * (94 - len(os.fsencode(base))))
        assert len(os.fsencode(folder)) == 95
    yield folder
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def settings(settings: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("NBLB_RUNTIME_DIR")
    return settings | {"LB_STATE_DIR": str(place)}


@pytest.fixture
def stopped(parameters: Parameters) -> Iterator[None]:
    yield
    launch.stop(parameters)


def nblb(*words: str, **environment: str | None) -> str:
    """The output of a command in a process of its own with this change of the environment."""
    env = os.environ | {name: value for name, value in environment.items() if value is not None}
    env = {name: value for name, value in env.items() if environment.get(name, value) is not None}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, timeout=60, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


FROM_OUTSIDE = """
import json, sys
import nblb as lb
cluster = lb.connect(sys.argv[1])
core = cluster.status().core.pid
print(json.dumps([core, sum(lb.attach("kept").results()), lb.task(abs, name="again").submit(-7).result(30)]))
"""


class Outside:
    """Another kernel and shell of this cluster."""

    def __init__(self, file: str, core: int, parameters: Parameters) -> None:
        self.file, self.core, self.parameters = file, core, parameters

    def finds_it(self, **environment: str | None) -> None:
        said = json.loads(nblb("-m", "nblb", "status", "--json", "-p", self.file, **environment))
        assert said["pid"] == self.core
        assert json.loads(nblb("-c", FROM_OUTSIDE, self.file, **environment)) == [self.core, 285, 7]

    def starts_no_other(self, **environment: str | None) -> None:
        said = nblb("-m", "nblb", "start", "--no-monitor", "--json", "-p", self.file, **environment)
        assert json.loads(said)["pid"] == self.core
        assert json.loads(said)["hubs"] == 1

    def all_is_there_again(self) -> None:
        folder = self.parameters.runtime_dir
        doors = [f"{name}{kind}" for name in ("clients", "hubs", "health") for kind in ("", ".local")]

        def restored() -> bool:
            roles = sorted(one.role for one in present(folder))
            return (
                roles == ["core", "health", "hub"]
                and all(answers(folder / door) for door in doors)
                and len([path for path in folder.glob("hub-*.health") if answers(path)]) == 1
                and (core := read_core_file(folder / "core.json")) is not None
                and core.pid == self.core
            )

        wait_until(restored, SOON_S, "sockets and files to be made again")
        assert folder.stat().st_mode & 0o777 == 0o700


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(str(path))
        except OSError:
            return False
    return True


def remove_runtime_folder(parameters: Parameters) -> None:
    shutil.rmtree(parameters.runtime_dir)


def move_runtime_folder(parameters: Parameters) -> None:
    parameters.runtime_dir.rename(parameters.state_dir.parent / "gone")


def remove_core_file(parameters: Parameters) -> None:
    parameters.connection_file.unlink()


def remove_sockets(parameters: Parameters) -> None:
    for path in parameters.runtime_dir.iterdir():
        if path.is_socket():
            path.unlink()


def remove_old_files(parameters: Parameters) -> None:
    """As a cleaner of /tmp, which leaves folders and sockets."""
    for path in parameters.runtime_dir.iterdir():
        if path.is_file():
            path.unlink()
    (parameters.state_dir / "lock").unlink()


CLEANERS = (remove_runtime_folder, move_runtime_folder, remove_core_file, remove_sockets, remove_old_files)


def test_a_cluster_survives_all_cleaners(
    parameters: Parameters, parameters_file: str, stopped: None, tmp_path: Path
) -> None:
    log, session = tmp_path / "log", tmp_path / "session"
    session.mkdir(0o700)
    cluster = launch.start(parameters, monitor=False)
    core, hub = cluster.status().core.pid, cluster.hubs()[0].pid
    outside = Outside(parameters_file, core, parameters)

    def square(number: int, log: Path = log) -> int:
        with log.open("a") as file:
            file.write(f"{number}\n")
        return number * number

    def last(seconds: float, log: Path = log) -> int:
        import time

        time.sleep(seconds)
        return square(10, log)

    task = lb.task(square)
    assert sum(task.map(range(10), job="kept").results()) == 285
    during = lb.task(last).submit(3.0)
    for cleaner in CLEANERS:
        cleaner(parameters)
        outside.finds_it()  # at once
        outside.starts_no_other()
        outside.all_is_there_again()
    for environment in ({"XDG_RUNTIME_DIR": str(session)}, {"XDG_RUNTIME_DIR": None}, {"TMPDIR": "/nowhere"}):
        outside.finds_it(**environment)
        outside.starts_no_other(**environment)
    session.rmdir()  # a log-out
    outside.finds_it(XDG_RUNTIME_DIR=str(session), HOME="/nowhere", TMPDIR=None)
    assert during.result(30) == 100
    assert sorted(map(int, log.read_text().split())) == list(range(11)), "each call once"
    assert task.submit(11).result(30) == 121
    assert (cluster.status().core.pid, cluster.hubs()[0].pid) == (core, hub)
    running = started_with([parameters.runtime_dir / SETTINGS])
    assert len(running) == 3
    cluster.close()
    remove_runtime_folder(parameters)
    assert "stopped" in nblb("-m", "nblb", "stop", "-p", parameters_file, XDG_RUNTIME_DIR=None)
    assert started_with([parameters.runtime_dir / SETTINGS]) == []
    assert not parameters.runtime_dir.exists()


@pytest.mark.parametrize("cleaner", CLEANERS)
@pytest.mark.parametrize("place", ["in the state folder"], indirect=True)
def test_stop_at_once_after_a_cleaner(
    parameters: Parameters, parameters_file: str, stopped: None, cleaner: Callable[[Parameters], None]
) -> None:
    launch.start(parameters, monitor=False).close()
    pids = started_with([parameters.runtime_dir / SETTINGS])
    assert len(pids) == 3
    cleaner(parameters)
    assert launch.stop(parameters)
    assert started_with([parameters.runtime_dir / SETTINGS]) == []
    assert not launch.stop(parameters)


@pytest.mark.parametrize("place", ["in the state folder"], indirect=True)
def test_a_core_that_is_started_in_another_environment(
    parameters: Parameters, stopped: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One shell has NBLB_RUNTIME_DIR and the next has not."""
    monkeypatch.setenv("NBLB_RUNTIME_DIR", tempfile.mkdtemp(dir="/tmp", prefix="nb"))
    try:
        with launch.start(parameters, monitor=False) as cluster:
            core = cluster.status().core.pid
            other = parameters.runtime_dir
            monkeypatch.setenv("NBLB_RUNTIME_DIR", "")
            with launch.start(parameters, monitor=False) as found:
                assert found.status().core.pid == core
                hub = found.add_hub(workers=1)
                wait_until(lambda: len(found.hubs()) == 2, 20, "a hub of this environment")
                hub.terminate()
            assert lb.connect(parameters).status().core.pid == core
            assert launch.stop(parameters)
        assert started_with([other / SETTINGS, parameters.runtime_dir / SETTINGS]) == []
    finally:
        shutil.rmtree(other.parent)


@pytest.mark.parametrize("place", ["in the state folder"], indirect=True)
def test_a_failed_start_ends_only_its_own_processes(
    parameters: Parameters, stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with launch.start(parameters, monitor=False) as cluster:
        future = lb.task(lambda: __import__("time").sleep(2) or 5).submit()
        wait_until(future.running, 20, "a running task")
        before = sorted(started_with([parameters.runtime_dir / SETTINGS]))

        def fail(*_: Any) -> None:
            raise RuntimeError("no cluster")

        monkeypatch.setattr("nblb.launch.cluster_processes.join", fail)
        with pytest.raises(RuntimeError, match="no cluster"):
            launch.start(parameters, monitor=False)
        monkeypatch.undo()
        assert sorted(started_with([parameters.runtime_dir / SETTINGS])) == before
        assert future.result(30) == 5
        assert cluster.status()


@pytest.mark.parametrize("place", ["in the state folder"], indirect=True)
def test_a_core_that_hangs_is_neither_replaced_nor_ended_by_a_start(
    parameters: Parameters, stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with launch.start(parameters, monitor=False):
        [core] = present(parameters.runtime_dir, "core")
        os.kill(core.pid, signal.SIGSTOP)
        try:
            parameters.connection_file.unlink()
            with pytest.raises(lb.LoadBalancerUnreachable, match=rf"core pid {core.pid} is alive but does not answer"):
                launch.start(parameters, monitor=False)
        finally:
            os.kill(core.pid, signal.SIGCONT)
        assert lb.task(abs).submit(-1).result(30) == 1


@pytest.mark.parametrize("place", ["in the state folder"], indirect=True)
def test_a_core_without_its_state_folder_ends(parameters: Parameters, stopped: None) -> None:
    launch.start(parameters, monitor=False).close()
    [core] = present(parameters.runtime_dir, "core")
    wait_until(lambda: shutil.rmtree(parameters.state_dir) is None, 10, "a removal that meets no new log line")
    with launch.start(parameters, monitor=False) as cluster:  # a new folder, and a new core
        assert cluster.status().core.pid != core.pid
        wait_until(lambda: core.pid not in started_with([parameters.runtime_dir / SETTINGS]), 20, "the old one to end")
        assert lb.task(abs).submit(-1).result(30) == 1
    assert started_with([parameters.runtime_dir / SETTINGS]) == []
    assert (parameters.state_dir / MARK).exists()


@pytest.mark.parametrize("place", ["in the state folder"], indirect=True)
def test_two_names_in_one_state_folder(parameters: Parameters, stopped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nblb.launch.cluster_processes.OTHER_CORE_S", 0.2)
    other = parameters.changed(LB_NAME="other")
    with launch.start(parameters, monitor=False):
        before = sorted(started_with([parameters.runtime_dir / SETTINGS]))
        with pytest.raises(lb.NblbError, match=r"in use by the core 't' \(pid \d+\)"):
            launch.start(other, monitor=False)
        with pytest.raises(lb.LoadBalancerUnreachable, match=r"no core 'other' .* in use by the core 't'"):
            lb.connect(other)
        assert not launch.stop(other)
        assert sorted(started_with([parameters.runtime_dir / SETTINGS])) == before
    assert started_with([other.runtime_dir / SETTINGS]) == []


@pytest.mark.parametrize("place", ["in the state folder"], indirect=True)
def test_a_state_folder_behind_a_link(parameters: Parameters, stopped: None, place: Path) -> None:
    with launch.start(parameters, monitor=False) as cluster:
        link = place.parent / "link"
        link.symlink_to(place)
        found = load(parameters.as_dict() | {"LB_STATE_DIR": str(link)})
        assert lb.connect(found).status().core.pid == cluster.status().core.pid


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o027])
@pytest.mark.parametrize("place", ["in the state folder"], indirect=True)
def test_a_running_cluster_is_closed_to_other_accounts(
    parameters: Parameters, parameters_file: str, stopped: None, place: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        place.mkdir(mode=0o777)
        launch.start(parameters).close()
        cluster = lb.connect(parameters)
        lb.task(lambda: print("x" * 100) or b"y" * 3_000_000).submit().result(30)
        wait_until(lambda: cluster.monitor_url, 60, "the Monitor")
        nblb("-m", "nblb", "health", "-p", parameters_file)
        launch.add_hub(parameters, 1)

        def mode_of_a_file() -> int:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "file"
                path.touch()
                return path.stat().st_mode & 0o777

        assert lb.task(mode_of_a_file).submit().result(30) == 0o666 & ~umask, "a task has the user's umask"
        found = [place, *place.rglob("*")]
        assert len(found) > 20
        assert [str(path) for path in found if path.lstat().st_mode & 0o077] == []
    finally:
        os.umask(before)
