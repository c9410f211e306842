"""Jobs outlive the kernel that submitted them, and the core: retried, completed, and told apart by their names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from nblb.client.debug.fetch_call import fetch_call
from nblb.launch.presence import present
from nblb.system import pids
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


@lb.task
def moody(x: int, lucky: str) -> int:
    """Multiples of 10 fail until the file is there."""
    if x % 10 == 0 and not Path(lucky).exists():
        raise OSError(f"{x} is out of luck")
    return 3 * x


def kernel(parameters: Parameters, code: str) -> subprocess.Popen[str]:
    """A process that is connected and runs this code; the word that it prints has been read."""
    words = [sys.executable, "-c", CONNECT + code, json.dumps(parameters.as_dict())]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "there\n"
    return client


def cell(name: str) -> Callable[[int], int]:
    """The function of this name as the kernels above define it: the same cell, run again."""
    main: dict[str, Any] = {"__name__": "__main__", "__package__": None}
    exec(compile(f"def {name}(x):\n    return 3 * x\n", "<string>", "exec", dont_inherit=True), main)
    defined: Callable[[int], int] = main[name]
    return defined


def end(client: subprocess.Popen[str]) -> None:
    client.kill()
    client.wait()
    assert client.stdout is not None
    client.stdout.close()


CONNECT = """
import json, sys, time
import nblb as lb
lb.connect(json.loads(sys.argv[1]))
"""


def counts(cluster: Cluster, name: str) -> dict[str, int]:
    """What the core itself counts."""
    [row] = [row for row in cluster.jobs() if row.name == name]
    about: dict[str, Any] = cluster.connection.ask("job", {"name": name, "user": cluster.user})
    assert about["counts"] == row.counts
    return dict(row.counts)


def test_retrying_failed_items_here_and_in_another_kernel_and_after_a_restart(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    lucky = tmp_path / "lucky"
    job = moody.map(range(200), lucky=str(lucky), job="moods")
    assert job.wait(60)
    assert job.counts() == counts(cluster, "moods") == {"DONE": 180, "FAILED": 20}
    assert job.retry_failed() == 20
    assert job.wait(60)
    assert job.counts() == counts(cluster, "moods") == {"DONE": 180, "FAILED": 20}
    again = "job = lb.attach('moods')\nassert job.retry_failed() == 20\nassert job.wait(60)\nprint('there', flush=True)"
    end(kernel(parameters, again))
    wait_until(lambda: job.counts() == counts(cluster, "moods") == {"DONE": 180, "FAILED": 20}, 10)

    [core] = present(parameters.runtime_dir, "core")
    os.kill(core.pid, signal.SIGKILL)
    assert pids.wait_gone([core.pid], 5) == []
    launch.start(parameters, monitor=False).close()
    lucky.touch()
    assert job.retry_failed() == 20
    assert job.results(60) == [3 * x for x in range(200)]
    assert counts(cluster, "moods") == {"DONE": 200}
    assert sorted(future.result() for future in job.as_completed(10)) == [3 * x for x in range(200)]
    assert job.retry_failed() == 0


HALF = """
from nblb.client.connection.connection import Connection
from nblb.protocol.messages import SubmitTask

say, left = Connection.send, 6
def stop_half_way(self, *messages):
    global left
    for message in messages:
        left -= type(message) is SubmitTask
        if left < 0:
            while self.session.unaccepted or self.inbox:
                time.sleep(0.01)
            print("there", flush=True)
            time.sleep(60)
        say(self, message)
Connection.send = stop_half_way

def work(x):
    return 3 * x
lb.task(work).map(range(12_000), job="half")
"""


def test_a_map_whose_submitter_was_killed_half_way_is_completed_by_the_same_map(
    cluster: Cluster, parameters: Parameters
) -> None:
    end(kernel(parameters, HALF))
    job = lb.attach("half")
    wait_until(job.done, 20, "the first half to be done")
    sent = sum(record.items for record in job._ledger.records.values())
    assert 6000 < sent < 7000
    assert job.counts() == {"DONE": sent, "LOST": 12_000 - sent}
    with pytest.raises(lb.TaskLost, match=r"never submitted, because its notebook ended first; run the map again"):
        job.results()

    again = lb.task(cell("work")).map(range(12_000), job="half")
    assert again.job_id == job.job_id
    assert again.results(60) == [3 * x for x in range(12_000)]
    assert again is job
    assert counts(cluster, "half") == {"DONE": 12_000}
    about = cluster.connection.ask("job", {"name": "half", "user": cluster.user})
    assert sum(record["items"] for record in about["records"]) == 12_000, "nothing was submitted twice"


UNNAMED = """
def triple(x):
    return 3 * x
lb.task(triple).map(range(3)).wait(60)
print("there", flush=True)
"""


def test_jobs_without_a_name_take_over_nobody_elses(cluster: Cluster, parameters: Parameters) -> None:
    for _ in range(2):
        end(kernel(parameters, UNNAMED))
    ids = {}
    for name in ("triple-1", "triple-2"):
        job = lb.attach(name)
        assert (job.name, job.results(60)) == (name, [0, 3, 6])
        wait_until(lambda job=job: job.snapshot().before == 3, 10, "it to be known that all had ended before")
        ids[name] = job.job_id
    assert len(set(ids.values())) == 2
    mine = lb.task(cell("triple")).map(range(4))
    wait_until(lambda: mine.name in {row.name for row in cluster.jobs()}, 10, "the job's name")
    assert len({row.name for row in cluster.jobs()}) == 3
    assert {name: lb.attach(name).job_id for name in ids} == ids


@lb.task
def patient(x: int, goes_on: str) -> int:
    """Item 0 ends at once, the others when the file is there."""
    if x:
        wait_until(Path(goes_on).exists, 60, "leave to go on")
    return x + 1


@lb.task
def double(x: int) -> int:
    return 2 * x


def test_who_needs_one_item_of_a_job_waits_for_no_other(cluster: Cluster, tmp_path: Path) -> None:
    goes_on = tmp_path / "go"
    job = patient.map([0, 1], [str(goes_on)] * 2)
    first, last = double.submit(job[0]), double.submit(job[1])
    assert first.result(60) == 2
    assert not last.done()
    goes_on.touch()
    assert last.result(60) == 4


def test_results_do_not_wait_for_a_slow_call_that_was_sent_with_them(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @lb.task
    def mostly_swift(x: int) -> int:
        while x == 40 and not gate.exists():
            pass
        return 3 * x

    mostly_swift.map([0] * 300).results(60)  # so that slices of many are sent
    job = mostly_swift.map(range(200))
    wait_until(lambda: all(job[n].done() for n in range(40)), 30)
    assert not job[40].done()
    gate.touch()
    assert job.results(60) == [3 * n for n in range(200)]


SAME = """
import os
def item(i, log):
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"%d\\n" % i)
    os.close(file)
print("there", flush=True)
log, at = sys.argv[2], float(sys.argv[3])
time.sleep(max(0.0, at - time.time()))
assert lb.task(item).map(range(300), log=log, job="same").wait(60)
"""


def test_three_kernels_that_map_the_same_at_once_share_one_job(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    for number in range(3):
        log = tmp_path / f"log-{number}"
        words = [sys.executable, "-c", CONNECT + SAME, json.dumps(parameters.as_dict()), str(log), str(time.time() + 2)]
        kernels = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(3)]
        assert [kernel.wait(60) for kernel in kernels] == [0, 0, 0]
        assert sorted(map(int, log.read_text().split())) == list(range(300)), "each item once"
        [row] = [row for row in cluster.jobs() if row.name == "same"]
        assert row.counts == {"DONE": 300}
        cluster.attach("same").forget()
        assert not [row for row in cluster.jobs() if row.name == "same"]


def test_only_what_failed_runs_with_the_mended_function_also_over_the_death_of_the_core(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    job = moody.map(range(60), lucky=str(tmp_path / "never"), job="mending")
    assert job.wait(60)
    gate = tmp_path / "gate"

    def mended(x: int, lucky: str) -> str:
        while not gate.exists():
            time.sleep(0.01)
        return f"mended {x}"

    assert job.retry_failed(with_=mended) == 6
    wait_until(lambda: counts(cluster, "mending").get("FAILED", 0) == 0, 10, "the core to have heard of it")
    [core] = present(parameters.runtime_dir, "core")
    os.kill(core.pid, signal.SIGKILL)
    assert pids.wait_gone([core.pid], 5) == []
    launch.start(parameters, monitor=False).close()
    gate.touch()
    assert job.results(60) == [f"mended {x}" if x % 10 == 0 else 3 * x for x in range(60)]
    there = cluster.attach(job.job_id)
    codes = {there[x]._function for x in range(0, 60, 10)}
    assert len(codes) == 1
    assert codes != {there[1]._function}
    again = "job = lb.attach('mending')\nassert len({job[x]._function for x in range(0, 60, 10)} - {''}) == 1\n"
    end(kernel(parameters, again + "assert job[1]._function == ''\nprint('there', flush=True)"))


def until_told(x: int) -> str:
    """Emits again and again, and returns only when item 0 does."""
    while x:
        lb.emit(f"half of {x}")
        time.sleep(0.01)
    return "whole"


def test_results_that_were_stopped_early_are_marked_in_every_kernel(cluster: Cluster, parameters: Parameters) -> None:
    pytest.importorskip("pandas")
    task = lb.task(until_told)
    job, single = task.map(range(2), job="early", chunksize=1), task.submit(3)
    wait_until(lambda: job[1].emitted and single.emitted, 20, "both to have emitted")
    assert job[1].stop_and_keep()
    assert single.stop_and_keep()
    assert job.results(60) == ["whole", "half of 1"]
    assert single.result(60) == "half of 3"
    assert (job[0].kept, job[1].kept, single.kept) == (False, True, True)
    assert job.kept == [job[1]]
    assert "stopped early" in repr(single)
    assert "1 stopped early" in job.summary()
    assert list(job.dataframe()["kept"]) == [False, True]
    look = "job = lb.attach('early')\nassert job.wait(60)\nassert [job[n].kept for n in (0, 1)] == [False, True]\n"
    end(kernel(parameters, look + "print('there', flush=True)"))
    changed = task.map([1, 0], job="early")  # the same items in another order: half a result is not taken for it
    wait_until(lambda: changed[0].emitted, 20, "the item that was stopped early to run again")
    changed.cancel()


def test_expired_results_say_so(settings: dict[str, Any]) -> None:
    settings |= {"LB_RESULT_TTL_S": 0.1, "LB_JOB_TTL_S": 0.1}
    try:
        cluster = launch.start(settings, monitor=False)
        future = lb.task(abs).submit(-1)
        job = lb.task(abs).map(range(3), job="sweep")
        assert (future.result(60), job.results(60)) == (1, [0, 1, 2])
        wait_until(lambda: cluster.connection.ask("dropped", {"name": "sweep", "user": cluster.user}), 20, "the expiry")
        with pytest.raises(lb.ResultExpired, match="'sweep' have expired"):
            lb.attach("sweep")
        wait_until(lambda: cluster.connection.ask("task", {"task": future.task_id}) is None, 20, "the expiry")
        with pytest.raises(lb.ResultExpired, match="has expired"):
            fetch_call(cluster.connection, future.task_id)
        with pytest.raises(lb.UnknownTask):
            lb.attach("no such job")
    finally:
        launch.stop(settings)
