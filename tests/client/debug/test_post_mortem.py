"""lb.debug walks through the frames of a failure, without the process that ran the task."""

from __future__ import annotations

import builtins
import traceback
from typing import Any

import pytest

import nblb as lb
from nblb import payload
from nblb.client.cluster import Cluster
from nblb.client.debug import saved_frames
from nblb.client.debug.post_mortem import PostMortem, debug
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.job import Job
from nblb.protocol.messages import TaskEnded, TaskState


def outer(number: int) -> float:
    scale = number * 10
    return inner(scale)


def inner(divisor: int) -> float:
    token = "abc"
    return len(token) / divisor


@pytest.fixture
def ended() -> TaskEnded:
    try:
        outer(0)
    except ZeroDivisionError as error:
        failure = payload.pack_exception(error, call="outer(0)")
    return TaskEnded(task="t", state=TaskState.FAILED, failure=failure)


@pytest.fixture
def post_mortem(cluster: Cluster, ended: TaskEnded) -> PostMortem:
    future = TaskFuture(cluster.connection, "t", "outer")
    future._port.finish(future, ended, None)
    return debug(future)


def test_it_begins_where_it_was_raised_and_walks_up_and_down(post_mortem: PostMortem) -> None:
    assert post_mortem.frame["function"] == "inner"
    assert post_mortem.p("divisor") == "0"
    assert "->" in post_mortem.l()
    assert post_mortem.up().p("scale") == "0"
    assert post_mortem.down().down().frame["function"] == "inner"
    assert post_mortem.where().splitlines()[-1].startswith("ZeroDivisionError")
    assert "divisor = 0" in repr(post_mortem)
    assert "abc" not in post_mortem.p("token")


def test_an_unknown_variable_is_suggested(post_mortem: PostMortem) -> None:
    with pytest.raises(lb.NblbError, match="did you mean divisor"):
        post_mortem.p("devisor")


def talk(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """What is typed into the debugger."""
    typed = iter(words)
    monkeypatch.setattr(builtins, "input", lambda _="": next(typed))


def test_the_debugger_walks_the_frames_with_their_values(
    post_mortem: PostMortem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "p divisor + 41",
        "p token",
        "token.upper()",
        "l",
        "u",
        "p scale * 2, number",
        "up",
        "w",
        "d",
        "d",
        "d",
        "q",
    )
    talk(monkeypatch, *words)
    post_mortem.interact()
    said = capsys.readouterr().out
    assert said.startswith("ZeroDivisionError: division by zero\n")
    assert "inner()" in said
    assert "41\n" in said
    assert "AttributeError: ‹not shown" in said
    assert "->" in said
    assert "return len(token) / divisor" in said
    assert "return inner(scale)" in said
    assert "(0, 0)\n" in said
    assert "Newest frame" in said


def test_values_are_loaded_when_an_expression_asks_for_them(
    post_mortem: PostMortem, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bytes] = []
    load = payload.load_value
    monkeypatch.setattr(payload, "load_value", lambda data: loaded.append(data) or load(data))
    assert "divisor = 0" in repr(post_mortem)
    assert post_mortem.p("divisor") == "0"
    assert loaded == []
    assert post_mortem.p("[divisor] * 3") == "[0, 0, 0]"
    assert post_mortem.values()["divisor"] == 0
    assert len(loaded) == 1
    with pytest.raises(AttributeError, match=r"not shown.* has no upper here: only its text was saved"):
        post_mortem.p("token.upper()")


def test_a_value_whose_class_is_gone_stays_a_text(post_mortem: PostMortem) -> None:
    post_mortem.error.frame_values = b"x" * 100
    with pytest.raises(AttributeError, match="its value cannot be loaded here"):
        post_mortem.p("divisor.real")


def test_several_frames_of_one_file_keep_their_lines(post_mortem: PostMortem) -> None:
    tb = saved_frames.traceback_of(
        post_mortem.frames, [post_mortem.values(at) for at in range(len(post_mortem.frames))]
    )
    text = "".join(traceback.format_tb(tb))
    assert "return inner(scale)" in text
    assert "return len(token) / divisor" in text


def test_jobs_futures_and_errors_are_taken(cluster: Cluster, ended: TaskEnded) -> None:
    job = Job(cluster.connection, "j", "sweep", "outer", 2)
    job._port.add_record(job, "t", 0, 2)
    job._port.settle(
        job, TaskEnded(task="t", first=1, items=1, state=TaskState.FAILED, failure=ended.failure), [(1, 1)]
    )
    assert debug(job).frame["function"] == "inner"
    assert job[1].frames == debug(job).frames
    with pytest.raises(lb.NblbError, match="has not ended"):
        debug(job[0])
    with pytest.raises(TypeError, match="takes a future"):
        debug(3)
    with pytest.raises(lb.NblbError, match="no frames were saved"):
        debug(lb.TaskLost("its worker died", "t"))
    error: Any = job[1].exception()
    assert debug(error).error is error
    assert job[0].frames == []


def test_the_failures_of_a_job_are_summed_up(cluster: Cluster, ended: TaskEnded) -> None:
    job = Job(cluster.connection, "j", "sweep", "outer", 4)
    job._port.add_record(job, "t", 0, 4)
    failed = TaskEnded(task="t", first=1, items=2, state=TaskState.FAILED, failure=ended.failure)
    job._port.settle(job, failed, [(1, 2)])
    assert "2 of 4 failed: 2 × ZeroDivisionError at test_post_mortem.py line " in str(job)
    assert str(job).endswith("; 2 to come")
    job._port.settle(
        job, TaskEnded(task="t", first=0, items=1, state=TaskState.DONE, payload=payload.pack_results([1])), [(0, 1)]
    )
    job._port.settle(job, TaskEnded(task="t", first=3, items=1, state=TaskState.CANCELLED), [(3, 1)])
    assert str(job).endswith("; 1 cancelled")
    with pytest.raises(lb.TaskFailed) as caught:
        job.results()
    assert str(caught.value).startswith("2 of 4 failed: 2 × ZeroDivisionError")
    assert "called as outer(0)" in str(caught.value)
    assert caught.value.frames
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
