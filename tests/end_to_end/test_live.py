"""Talking with running tasks through a real cluster, and what is left of them afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb.protocol.messages import TaskState
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


@lb.task
def steered(steps: int, pause_s: float = 0.005) -> str:
    import time

    for step in lb.track(range(steps)):
        rate = lb.knob("rate", 1.0, min=0, max=10)
        lb.emit({"step": step, "rate": rate})
        time.sleep(pause_s)
    return "whole"


def test_emit_turn_and_stop_early(cluster: Cluster) -> None:
    future = steered.submit(100_000)
    heard: list[Any] = []
    future.on_emit(heard.append)
    wait_until(lambda: future.emitted and future.knobs, 10)
    future.turn("rate", 7)
    wait_until(lambda: future.knobs["rate"].value == 7, 5)
    wait_until(lambda: future.emitted["rate"] == 7, 5)
    assert future.stop_and_keep() is True
    result = future.result(60)
    assert result["rate"] == 7
    assert future.state is TaskState.DONE
    assert [step[1] for step in future.story()][-1] == "StoppedAndKept"
    assert len(heard) >= 2
    assert steered(3, 0) == "whole"  # outside a worker it is the function that it was

    job = steered.map([100_000, 3], job="steered")
    wait_until(lambda: 0 in job.emitted, 10)
    job.turn("rate", 3)
    wait_until(lambda: job.emitted[0]["rate"] == 3, 5)
    assert lb.attach("steered").knobs
    wait_until(job[1].done, 10)
    assert job.stop_and_keep() == 1
    assert [type(value) for value in job.results(60)] == [dict, str]


@lb.task
def silent() -> None:
    import time

    for _ in lb.track(range(100_000)):
        time.sleep(0.005)


def test_nothing_emitted_is_an_error_that_says_so(cluster: Cluster) -> None:
    future = silent.options(retries=3).submit()
    wait_until(lambda: future.state is TaskState.RUNNING, 10)
    assert future.stop_and_keep()
    with pytest.raises(lb.TaskFailed, match="emitted nothing"):
        future.result(60)
    assert future.attempt == 1
    waiting = [silent.submit() for _ in range(3)][-1]
    with pytest.raises(lb.NblbError, match="does not run yet"):
        waiting.stop_and_keep()


OTHER_KERNEL = """
import os, sys, time
import nblb as lb
from nblb.client.jobs import attach
from nblb.client.submit import submit
submit.origin = attach.origin = lambda: "paper.ipynb#7"
lb.connect(sys.argv[1])

@lb.task
def talk(seconds):
    import sys, time
    print("said"); sys.stderr.write("complained")
    display("shown")
    lb.emit("early")
    time.sleep(seconds)
    return seconds

job = talk.map([1.5, 1.6], job="sweep")
single = talk.submit(0.1)
while job.counts().get("RUNNING") != 2 or not job.emitted:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(60)
"""


def test_another_kernel_finds_output_pictures_and_what_finished(
    cluster: Cluster, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps(settings))
    root = str(Path(lb.__file__).parents[1])
    environment = {**os.environ, "JPY_SESSION_NAME": "paper.ipynb", "PYTHONPATH": root}
    kernel = subprocess.Popen(
        [sys.executable, "-c", OTHER_KERNEL, str(file)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert kernel.stdout is not None
    with kernel.stdout:
        assert kernel.stdout.readline() == "ready\n"
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
    monkeypatch.setenv("JPY_SESSION_NAME", "paper.ipynb")
    job = lb.attach("sweep")
    wait_until(lambda: job.emitted == {0: "early", 1: "early"}, 5)  # those that run say it again
    cluster.connection.jobs.pop(job.job_id)  # as if this kernel began only now
    wait_until(lambda: cluster.jobs()[-1].state == "done", 20)
    inbox = wait_until(lambda: len(box := lb.inbox()) == 2 and box, 10, every_s=0.2)
    assert "job sweep of talk(1.5): 2 tasks" in repr(inbox)
    assert "task talk(0.1): done" in repr(inbox)
    assert "sweep" in inbox._repr_mimebundle_()["text/plain"]
    names: dict[str, Any] = {"sweep": "taken"}
    found = inbox.recover(names)
    assert names["sweep"] == "taken"
    assert found["sweep_2"].results() == [1.5, 1.6]
    assert found["talk_result"].result(60) == 0.1
    assert found["talk_result"].stdout == "said\n"
    assert found["talk_result"].stderr == "complained"
    assert [str(picture) for picture in found["talk_result"].displays] == ["'shown'"]
    assert found["sweep_2"][1].stdout == "said\n"
    assert len(lb.inbox()) == 0
    with pytest.raises(lb.UnknownTask, match="did you mean sweep"):
        lb.attach("swep")


@lb.task
def fails(number: int, key: str = "", data: list[int] | None = None) -> float:
    half = number - 3
    return (data or [1])[0] / half


def test_a_failure_can_be_looked_at_and_run_again_here(cluster: Cluster) -> None:
    held = lb.put([5, 6])
    future = fails.submit(3, key="k", data=held)
    error = future.exception(10)
    assert isinstance(error, lb.TaskFailed)
    assert (error.host, error.attempt) == (future.host, 1)
    assert error.worker.startswith("worker_")
    assert "called as fails(3, key=‹not shown" in str(error)
    assert "return (data or [1])[0] / half" in str(error)
    assert str(error).endswith(f" on {error.host}, attempt 1")
    assert lb.debug(future).p("half") == "0"
    assert future.frames == error.frames
    with pytest.raises(ZeroDivisionError):
        future.rerun_here()
    dependent = fails.submit(fails.submit(4), data=fails.map([5, 4], job="deps"))
    assert dependent.result(60) == pytest.approx(0.5 / -2)
    job = fails.map(range(6), job="six")
    with pytest.raises(lb.TaskFailed, match=r"1 of 6 failed: 1 × ZeroDivisionError at .* line \d+; .* item 3"):
        job.results()
    with pytest.raises(ZeroDivisionError):
        job[3].rerun_here()


def test_endless_output_does_not_slow_the_client(cluster: Cluster) -> None:
    @lb.task
    def flood() -> None:
        line = "x" * 99
        for _ in range(300_000):
            print(line)
        print("the end")

    future = flood.submit()
    worst, used = 0.0, time.process_time()
    while not future.done():
        before = time.perf_counter()
        time.sleep(0.005)
        worst = max(worst, time.perf_counter() - before)
    used = time.process_time() - used
    assert future.stdout == f"{'x' * 99}\n" * 300_000 + "the end\n"
    assert len(repr(future.stdout)) < 10_000
    shown = future.snapshot()
    assert len(shown.stdout_tail) <= 64 * 1024
    assert shown.output_bytes == 30_000_008
    assert used < 2.0
    assert worst < 1.0
