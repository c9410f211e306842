"""Large arguments, results, closures and constants: by files past core and hub, and right whatever dies or changes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import nblb as lb
from nblb import launch, parameters
from nblb.system import pids
from tests.waiting import all_accepted, wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

ROOT = Path(__file__).parents[2]
MIB = 2**20
NUMBERS = 2 * MIB // 8  # of an array of 2 MiB


@lb.task
def echo(x: Any) -> Any:
    return x


@lb.task
def add(x: Any, n: float = 1.0) -> Any:
    x += n  # in place: the worker's own copy
    return x


@lb.task
def total(x: Any, *_: Any) -> float:
    return float(x.sum())


@lb.task
def waits(x: Any, path: str) -> float:
    while not Path(path).exists():
        time.sleep(0.01)
    return float(x.sum())


def files(parameters: Parameters, folder: str) -> list[str]:
    return sorted(p.name for p in (parameters.state_dir / folder).iterdir() if p.name != "token")


def peak_mib(pid: int) -> float:
    """The most memory that a process has had since its mark was reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only /proc tells peaks of memory")
def test_neither_core_nor_hub_holds_what_passes_them(cluster: Cluster) -> None:
    echo.submit(1).result(60)
    watched = [cluster.status().core.pid, cluster.hubs()[0].pid]
    for pid in watched:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = [peak_mib(pid) for pid in watched]
    array = np.arange(64 * MIB // 8, dtype=float)
    back = echo.submit(array).result(60)
    assert np.array_equal(back, array)
    assert back.flags.writeable
    assert back.flags.aligned
    assert all(peak_mib(pid) - mib < 32 for pid, mib in zip(watched, before, strict=True))


def test_arguments_are_what_they_were_when_they_were_submitted(cluster: Cluster) -> None:
    array = np.zeros(NUMBERS)
    futures = []
    for n in range(4):
        array[-1] = n
        futures += [total.submit(array), total.submit(array)]
    array[:] = 99
    assert lb.gather(*futures) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_view_of_the_arguments_is_a_result_and_changes_stay_in_the_task(cluster: Cluster) -> None:
    array = np.ones(NUMBERS)
    assert add.map([array] * 4).results(60)[3].sum() == 2 * NUMBERS  # each call begins with what was sent
    assert total.submit(array).result(60) == NUMBERS
    back = echo.submit({"half": array[: NUMBERS // 2], "whole": array}).result(60)
    assert (back["half"].sum(), back["whole"].sum()) == (NUMBERS // 2, NUMBERS)


def test_results_outlive_their_files(cluster: Cluster, parameters: Parameters) -> None:
    future = add.submit(np.zeros(NUMBERS))
    wait_until(future.done, 20, "the result")
    launch.stop(parameters)
    for name in files(parameters, "blobs"):
        (parameters.state_dir / "blobs" / name).unlink()
    back = future.result()
    back[0] = 5
    assert back.sum() == NUMBERS + 4


def test_one_array_in_many_calls_is_written_once_and_goes_when_they_are_done(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    array = np.ones(NUMBERS)
    job = waits.map(itertools.repeat(array), [str(go)] * 20)
    single = [waits.submit(array, str(go)) for _ in range(5)]
    wait_until(lambda: files(parameters, "blobs"), 20, "the array to be kept")
    wait_until(lambda: all_accepted(cluster), 20, "all to be accepted")
    assert len(files(parameters, "blobs")) == 1
    go.touch()
    assert job.results(60) == [NUMBERS] * 20
    assert lb.gather(*single) == [NUMBERS] * 5
    wait_until(lambda: files(parameters, "blobs") == [], 20, "the arguments to be let go of")


def test_a_generator_that_changes_its_array_is_taken_at_its_word(cluster: Cluster) -> None:
    def growing() -> Iterator[Any]:
        array = np.zeros(NUMBERS)
        for n in range(4):
            array[0] = n
            yield array

    assert total.map(growing()).results(60) == [0, 1, 2, 3]


def test_closures_and_constants(cluster: Cluster) -> None:
    weights = np.ones(NUMBERS)

    @lb.task
    def weigh(n: int) -> float:
        return float(weights[0]) * n

    assert weigh.map(range(6)).results(60) == [0, 1, 2, 3, 4, 5]
    weights[0] = 10
    assert weigh.submit(2).result(60) == 20
    held = lb.put(weights)
    weights[0] = 0
    assert [future.result(60) for future in [total.submit(held) for _ in range(4)]] == [NUMBERS + 9] * 4
    assert total.map([held] * 3).results(60) == [NUMBERS + 9] * 3
    assert held.value[0] == 10


def test_a_large_constant_is_known_by_its_content_where_that_counts(cluster: Cluster) -> None:
    first, again = (lb.put(np.full(9 * MIB // 8, 2.0)) for _ in range(2))
    assert first.hash != again.hash  # its content was not looked at
    assert first.content == again.content
    job = total.map([first], job="named")
    assert job.results(60) == [2.0 * 9 * MIB // 8]
    assert total.map([again], job="named").job_id == job.job_id
    cached = total.options(cache=True)
    computed, served = (cached.submit(held) for held in (first, again))
    assert served.result(60) == computed.result(60)
    assert (computed.worker == "cache", served.worker) == (False, "cache")


def test_large_results_are_arguments_of_others(cluster: Cluster) -> None:
    one = add.submit(np.zeros(NUMBERS))
    both = [add.submit(one, 2.0), add.submit(one, 3.0)]
    assert [total.submit(future).result(60) for future in both] == [3 * NUMBERS, 4 * NUMBERS]
    assert one.result(60).sum() == NUMBERS


def test_an_attempt_after_a_death_begins_with_what_was_sent(cluster: Cluster, tmp_path: Path) -> None:
    def dies_once(x: Any, path: str) -> Any:
        x += 1
        if not os.path.exists(path):  # noqa: PTH110
            open(path, "w").close()
            os.kill(os.getpid(), 9)
        return x

    back = lb.task(dies_once).submit(np.zeros(NUMBERS), str(tmp_path / "died")).result(60)
    assert back.sum() == NUMBERS


def test_a_killed_core_loses_neither_arguments_nor_results(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    go, array = tmp_path / "go", np.ones(NUMBERS)
    running = [waits.submit(array, str(go)) for _ in range(4)]  # two run, two wait
    results = add.map([array] * 3, job="kept")
    wait_until(lambda: all_accepted(cluster), 20, "all to be accepted")
    pid = cluster.status().core.pid
    os.kill(pid, signal.SIGKILL)
    assert pids.wait_gone([pid], 5) == []
    late = [echo.submit(array + n) for n in range(2)]  # while there is none
    go.touch()
    launch.start(parameters, monitor=False).close()
    assert lb.gather(*running) == [NUMBERS] * 4
    assert [back.sum() for back in results.results(60)] == [2 * NUMBERS] * 3
    assert [future.result(60)[0] for future in late] == [1, 2]
    assert [back.sum() for back in cluster.attach("kept").results(60)] == [2 * NUMBERS] * 3


CLIENT = """
import json, os, sys
import numpy as np
import nblb as lb
from tests.waiting import all_accepted
cluster = lb.connect(json.loads(sys.argv[1]))
def square(x): return x * x
job = lb.task(square).map([np.full(2**18, float(n)) for n in range(4)], job="left")
while not all_accepted(cluster): job.wait(0.02)
recent = lb.put(np.ones(2**18))
print("accepted", flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_kernel_has_left_is_swept(
    cluster: Cluster, parameters: Parameters, settings: dict[str, Any]
) -> None:
    run = subprocess.run([sys.executable, "-c", CLIENT, json.dumps(settings)], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout == "accepted\n", run.stderr
    assert files(parameters, "incoming") != []
    results = cluster.attach("left").results(60)
    assert [back[0] for back in results] == [0, 1, 4, 9]
    cluster.stop()
    launch.start(parameters, monitor=False).close()
    wait_until(lambda: files(parameters, "incoming") == [], 20, "the leftovers to go")


def test_a_program_that_ends_leaves_no_file(cluster: Cluster, parameters: Parameters, settings: dict[str, Any]) -> None:
    script = CLIENT.replace("os.kill(os.getpid(), 9)", "")
    run = subprocess.run([sys.executable, "-c", script, json.dumps(settings)], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout == "accepted\n", run.stderr
    assert cluster.attach("left").results(60)[3][0] == 9
    wait_until(lambda: files(parameters, "incoming") == [], 20, "the hub to let go of the results, too")


def test_what_went_with_a_removed_folder_is_said_at_once(cluster: Cluster, parameters: Parameters) -> None:
    array = np.ones(NUMBERS)

    @lb.task
    def weigh() -> float:
        return float(array.sum())

    held = lb.put(array)
    assert weigh.submit().result(60) == NUMBERS
    for name in files(parameters, "incoming"):
        (parameters.state_dir / "incoming" / name).unlink()
    for name in files(parameters, "blobs"):
        (parameters.state_dir / "blobs" / name).unlink()
    with pytest.raises(lb.NblbError, match="put the value again"):
        total.submit(held)
    array[0] = 2  # so that nobody has it
    assert weigh.submit().result(60) == NUMBERS + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB, where this account may mount one."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "nblb-test", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_what_has_no_room_is_refused_and_leaves_nothing(settings: dict[str, Any], small_disk: Path) -> None:
    from nblb.parameters import load

    parameters = load(settings | {"LB_STATE_DIR": str(small_disk / "state")})
    try:
        launch.start(parameters, monitor=False)
        assert echo.submit(np.ones(MIB // 8)).result(60).sum() == MIB // 8
        with pytest.raises(lb.JournalFull, match="is full"):
            echo.submit(np.ones(16 * MIB // 8)).result(60)
        assert files(parameters, "incoming") == []  # not even the one from before, should the same come again
        wait_until(lambda: echo.submit(1).exception(20) is None, 30, "tasks to be accepted again")
        assert echo.submit(np.ones(MIB // 8)).result(60).sum() == MIB // 8
    finally:
        launch.stop(parameters)


def test_without_a_journal_files_are_handed_over_too(settings: dict[str, Any]) -> None:
    from nblb.parameters import load

    parameters = load(settings | {"LB_DURABILITY": "none"})
    try:
        launch.start(parameters, monitor=False)
        array = np.arange(NUMBERS, dtype=float)
        assert np.array_equal(echo.submit(array).result(60), array)
        assert total.map([array] * 3).results(60) == [array.sum()] * 3
    finally:
        launch.stop(parameters)
    assert list((parameters.state_dir / "memory" / "blobs").iterdir()) == []


def alike(given: Any, value: Any) -> bool:
    if isinstance(value, list):
        return len(given) == len(value) and all(map(np.array_equal, given, value))
    return given == value if isinstance(value, bytes) else np.array_equal(given, value)


def test_a_result_may_be_as_large_as_an_argument(settings: dict[str, Any]) -> None:
    size = 6 * MIB

    def made(form: str) -> Any:
        if form == "text":
            return b"x" * size
        return np.full(size, 7, "u1") if form == "array" else [np.full(2**16, n % 200, "u1") for n in range(4200)]

    with launch.start(parameters.load(settings | {"LB_MAX_MESSAGE_MB": 2}), monitor=False):
        for form in ("text", "array", "arrays"):
            value = made(form)
            assert alike(lb.task(made).submit(form).result(60), value)
            if form != "arrays":
                assert alike(echo.submit(value).result(60), value)
                assert all(alike(given, value) for given in lb.task(made).map([form, form]).results(60))
