"""@task and its options: a mistake is reported at once."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

import nblb as lb
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.submit import submit
from nblb.client.submit.function_cache import shelf
from nblb.client.submit.submit import Options
from nblb.protocol.equipment import Needs
from nblb.protocol.messages import Publish, SubmitTask
from tests.client.fake_core import FakeCore


def plain(x: int) -> int:
    """Documented."""
    return x + 1


def test_bare_and_with_options() -> None:
    bare, named = (
        task_decorator.task(plain),
        task_decorator.task(name="other", priority=3, retries=1, timeout=2.5)(plain),
    )
    assert (bare.name, named.name) == ("plain", "other")
    assert bare(1) == named(1) == 2
    assert bare.__doc__ == "Documented."
    assert task_decorator.task(bare) is bare
    assert repr(bare) == "<Task plain(x: 'int') -> 'int'>"
    changed = named.options(priority=9)
    assert (changed._options.priority, changed._options.retries, named._options.priority) == (9, 1, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"priority": float("nan")}, "priority is nan; it must be a finite number"),
        ({"priority": float("inf")}, "priority is inf"),
        ({"priority": "high"}, "priority is 'high'; it must be a finite number"),
        ({"priority": True}, "priority is True"),
        ({"timeout": 0}, "timeout is 0; it must be above 0"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": "1 s"}, "timeout is '1 s'"),
        ({"retries": -1}, "retries is -1"),
        ({"time": 0}, "time is 0; it must be above 0"),
        ({"time": "soon"}, "'soon' is no length of time"),
        ({"time": "-2h"}, "'-2h' is no length of time"),
        ({"time": True}, "time is True"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"gpus": 1.5}, "gpus is 1.5"),
        ({"memory_mb": "8 GB"}, "memory_mb is '8 GB'"),
        ({"needs": 5}, "needs is 5"),
        ({"memory_retry": 0.5}, "memory_retry is 0.5"),
        ({"name": 3}, "name is 3; it must be a text"),
        ({"retries": 1, "at_most_once": True}, "contradict"),
        ({"retries": 1, "retry_wait": -1}, "retry_wait is -1; it must be 0 to"),
        ({"retries": 1, "retry_wait": "1 s"}, "retry_wait is '1 s'"),
        ({"deadline": 0}, "deadline is 0; it must be above 0"),
        ({"deadline": "noon"}, "deadline is 'noon'; it must be a number of seconds above 0, a datetime"),
        ({"retry_wait": 5}, "retry_wait=5 has no effect without retries"),
        ({"retries": 1, "retry_on": 3}, "retry_on is 3; it must be an exception class"),
        ({"retries": 1, "retry_on": (OSError, int)}, "it must be an exception class"),
        ({"retry_on": OSError}, "has no effect without retries"),
        ({"prio": 1}, "'prio' is not an option of a task; there are name, priority"),
    ],
)
def test_wrong_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        task_decorator.task(**options)
    with pytest.raises((TypeError, ValueError), match=sentence):
        task_decorator.task(plain).options(**options)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [(0, "max_failures is 0; it must be 1 or more"), (True, "max_failures is True"), (2.0, "max_failures is 2.0")],
)
def test_wrong_limits_of_failures(limit: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        task_decorator.task(plain).map([1], max_failures=limit)


def test_exception_classes_travel_as_names() -> None:
    options = task_decorator.task(plain, retries=1, retry_on=(OSError, "urllib.error.URLError", IOError))._options
    assert options.retry_on == ("builtins.OSError", "urllib.error.URLError")
    assert task_decorator.task(plain, retries=1, retry_on=KeyError)._options.retry_on == ("builtins.KeyError",)
    assert options.changed({"retries": 3}).retry_on == options.retry_on


def test_a_task_is_made_of_a_function() -> None:
    with pytest.raises(TypeError, match="a task is made of a function"):
        task_decorator.task(3)  # type: ignore[call-overload]


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_task_that_travels_is_its_function_and_can_be_submitted_there(pickler: Any) -> None:
    task = task_decorator.task(retries=2, priority=3.0)(plain)
    there = pickler.loads(pickler.dumps(task))
    assert there.__nblb_function__ is plain
    assert there(4) == plain(4)
    assert there.__name__ == "plain"
    assert inspect.signature(there) == inspect.signature(plain)
    assert there._task()._options == task._options
    again = pickler.loads(pickler.dumps(there))
    assert again._task()._options == task._options
    with pytest.raises(AttributeError):
        there.no_such_thing  # noqa: B018


def test_a_task_may_call_itself_and_others(cluster: Cluster) -> None:
    source = """
import nblb as lb
@lb.task
def helper(n): return n * 10
@lb.task
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
@lb.task
def both(n): return fib(n) + helper(n)
"""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(source, namespace)
    assert namespace["both"].submit(10).result(60) == 55 + 100


def test_a_method_is_a_task_too(cluster: Cluster) -> None:
    class Model:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @task_decorator.task
        def scaled(self, x: int) -> int:
            return self.factor * x

    model = Model(3)
    assert model.scaled(2) == 6
    assert model.scaled.name == "scaled"
    assert model.scaled.submit(5).result(60) == 15


def test_lambdas_and_builtins(cluster: Cluster) -> None:
    assert task_decorator.task(lambda x: x + 1).submit(1).result(60) == 2
    assert task_decorator.task(len).submit([1, 2]).result(60) == 2
    assert task_decorator.task(len).map(["a", "bc"]).results(60) == [1, 2]


def test_cache_keys_follow_code_and_arguments(cluster: Cluster, core: FakeCore) -> None:
    def made(text: str) -> task_decorator.Task:
        namespace: dict[str, Callable[..., Any]] = {}
        exec(text, namespace)
        return task_decorator.task(cache=True)(namespace["f"])

    def key(task: task_decorator.Task, *args: Any) -> str:
        task.submit(*args).result(60)
        return core.said(SubmitTask)[-1].cache  # type: ignore[no-any-return]

    one = made("def f(x): return x")
    assert key(one, 1) == key(one, 1) == key(made("\n\ndef f(x):\n  # hello\n  return x"), 1)
    assert len({key(one, 1), key(one, 2), key(made("def f(x): return x + 0"), 1)}) == 3
    one.map(range(3)).results(60)
    assert [spec.items for spec in core.said(SubmitTask)[-3:]] == [1, 1, 1]
    assert len({spec.cache for spec in core.said(SubmitTask)[-3:]}) == 3
    task_decorator.task(plain).submit(1).result(60)
    assert core.said(SubmitTask)[-1].cache == ""


def test_publish(cluster: Cluster, core: FakeCore) -> None:
    assert lb.publish(plain, "public") == "public"
    assert task_decorator.task(name="other")(plain).publish() == "other"
    published = core.said(Publish)
    assert [message.name for message in published] == ["public", "other"]
    assert published[0].hash in core.blobs


def test_names_of_jobs_are_made(cluster: Cluster) -> None:
    names = [task_decorator.task(plain).map([1]).name for _ in range(2)]
    assert all(name.startswith("plain-") for name in names)
    assert names[0] != names[1]
    assert task_decorator.task(plain).map([1], job="mine").name == "mine"
    assert task_decorator.task(job="sweep")(plain).map([1]).name == "sweep"
    with pytest.raises(TypeError, match="the name of a job"):
        task_decorator.task(plain).map([1], job=3)  # type: ignore[arg-type]


def test_without_a_cluster_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("nblb.client.open_clusters._open", [])
    with pytest.raises(lb.LoadBalancerUnreachable, match=r"%lb_start, lb.start\(\)"):
        task_decorator.task(plain).submit(1)


def test_importing_the_decorator_is_light() -> None:
    code = (
        "import sys, nblb; nblb.task; loaded = set(sys.modules);"
        "print([n for n in ('panel', 'ipywidgets', 'IPython', 'numpy', 'pandas') if n in loaded])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_options_beside_a_function_are_its_own() -> None:
    direct = task_decorator.task(plain, retries=3, at_most_once=False, priority=2, name="direct")
    assert (direct._options.retries, direct._options.priority, direct.name) == (3, 2, "direct")
    again = task_decorator.task(direct, priority=5)
    assert (again._options.retries, again._options.priority, again.name) == (3, 5, "direct")
    decorated = task_decorator.task(timeout=9)(direct)
    assert (decorated._options.retries, decorated._options.timeout) == (3, 9)
    assert task_decorator.task(direct) is direct
    with pytest.raises(TypeError, match="'prio' is not an option of a task"):
        task_decorator.task(plain, prio=1)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="retries is -1"):
        task_decorator.task(direct, retries=-1)


def test_what_publishing_leaves_out_is_said(cluster: Cluster) -> None:
    with pytest.warns(UserWarning, match=r"plain is published without retries=2: they apply to tasks that"):
        task_decorator.publish(task_decorator.task(plain, retries=2))


def test_needs_travel_with_the_task() -> None:
    plain_form = submit._form(shelf.blob(plain), Options(), "", "")
    assert plain_form.needs is None
    task = task_decorator.task(gpus=1, needs=["b", "a"])(plain).options(memory_mb=800)
    form = submit._form(shelf.blob(plain), task._options, "", "")
    assert form.needs == Needs(1.0, 800, ("a", "b"))
