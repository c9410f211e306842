"""Any text and any misbehaving object, at each public place that takes one: that call fails, and the next one runs."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import nblb as lb

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

EXAMPLES = int(os.environ.get("NBLB_TEXT_EXAMPLES", "25"))
any_text = st.text(st.characters(), max_size=40)  # lone surrogates and control characters, too
TOLD = (lb.NblbError, ValueError, TypeError, LookupError, AttributeError)  # what a call may raise about its text
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

DUNDERS = [
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__", "__new__",
    "__init__", "__repr__", "__str__", "__format__", "__eq__", "__ne__", "__lt__", "__hash__", "__bool__", "__len__",
    "__iter__", "__next__", "__contains__", "__getitem__", "__getattr__", "__getattribute__", "__dir__", "__sizeof__",
    "__call__", "__copy__", "__deepcopy__", "__del__", "__index__", "__int__", "__float__", "__fspath__", "__bytes__",
    "__array__", "__array_interface__", "__buffer__", "__enter__", "__await__", "__instancecheck__", "_repr_html_",
    "_repr_mimebundle_", "_ipython_display_", "__nblb_argument__", "__class__", "__module__", "__qualname__",
]  # fmt: skip
RAISES = [
    "KeyboardInterrupt",
    "SystemExit",
    "GeneratorExit",
    "RecursionError",
    "StopIteration",
    "MemoryError",
    "OSError",
]


def says(text: str, way: str) -> str:
    """Runs in the worker: lets the text out in one way."""
    import logging
    import sys
    import warnings

    if way == "raise":
        raise ValueError(text)
    if way == "note":
        error = ValueError("noted")
        error.__notes__ = [text]  # type: ignore[attr-defined]
        raise error
    if way == "class":
        raise type(text.replace("\0", "") or "E", (Exception,), {"__module__": text})(text)
    if way == "exit":
        raise SystemExit(text)
    if way == "progress":
        lb.progress(50, text)
    elif way == "emit":
        lb.emit(text)
    elif way == "knob":
        lb.knob(text, text)
    elif way == "print":
        print(text)
        print(text, file=sys.stderr)
    elif way == "log":
        logging.getLogger(text).warning(text)
        warnings.warn(text, stacklevel=1)
    return text


WAYS = ["return", "raise", "note", "class", "exit", "progress", "emit", "knob", "print", "log"]


def next_one_runs() -> None:
    assert lb.task(abs).submit(-7).result(60) == 7


@pytest.fixture
def pid(cluster: Cluster) -> Callable[[], int]:
    """The pids of core and hub, which no text may change."""
    return lambda: cluster.status().core.pid


@bounded
@example(text="\udce9\x00\x1b[2J", way="class")
@given(text=any_text, way=st.sampled_from(WAYS))
def test_a_text_that_a_task_lets_out(cluster: Cluster, pid: Callable[[], int], text: str, way: str) -> None:
    before = pid()
    future = lb.task(says).submit(text, way)
    try:
        assert future.result(60) == text
    except lb.NblbError as error:
        str(error).encode()
    for shown in (repr(future), future.stdout, future.stderr, str(future.story()), future.why()):
        str(shown).encode()
    next_one_runs()
    assert pid() == before


def _job(text: str) -> object:
    return lb.task(abs).map([-1, -2], job=text).results(60)


def _cancelled(text: str) -> object:
    return lb.task(abs).options(name=text, user=text).submit(-1).cancel()


PLACES: dict[str, Callable[[str], object]] = {
    "job": _job,
    "name": lambda text: lb.task(abs).options(name=text).submit(-1).result(60),
    "user": lambda text: lb.task(abs).options(user=text).submit(-1).result(60),
    "cancelled": _cancelled,
    "attach": lb.attach,
    "publish": lambda text: lb.publish(abs, name=text),
    "executor": lambda text: lb.executor(user=text).submit(abs, -1).result(60),
    "argument": lambda text: lb.task(str.upper).submit(text).result(60),
    "retry": lambda text: lb.task(abs).map([-1], job=text).retry_failed(),
    "engine": lambda text: lb.task(abs).options(engine=text).submit(-1).result(60),
    "forget": lambda text: lb.task(abs).map([-1], job=text).forget(),
}


@bounded
@given(text=any_text, place=st.sampled_from(sorted(PLACES)))
def test_a_text_that_a_user_gives(cluster: Cluster, pid: Callable[[], int], text: str, place: str) -> None:
    before = pid()
    try:
        PLACES[place](text)
    except TOLD as error:
        str(error).encode("utf-8", "surrogatepass")
    for rows in (cluster.jobs(), cluster.users(), lb.tasks()):
        repr(rows).encode()
    next_one_runs()
    assert pid() == before


def odd(members: list[str], raises: str, state: str) -> Any:
    """An object of a class whose methods raise."""

    def misbehave(*_: Any, **__: Any) -> Any:
        raise getattr(builtins, raises)(state)

    plain: dict[str, Any] = {"__module__": "__main__"}
    for name in members:
        if name in {"__new__", "__init__"}:
            continue  # they would stop it from being made here
        plain[name] = property(misbehave) if name in {"__class__", "__module__", "__array_interface__"} else misbehave
    return type("Odd", (), plain)()


@bounded
@given(
    members=st.lists(st.sampled_from(DUNDERS), min_size=1, max_size=6, unique=True),
    raises=st.sampled_from(RAISES),
    way=st.sampled_from(["argument", "result", "in a list", "exception", "constant", "emitted", "global"]),
)
def test_an_object_that_misbehaves(
    cluster: Cluster, pid: Callable[[], int], members: list[str], raises: str, way: str
) -> None:
    before = pid()
    make = odd

    def made() -> Any:
        thing = make(members, raises, "x")
        if way == "exception":
            raise type("OddError", (Exception,), dict(vars(type(thing))))("x")
        if way == "emitted":
            lb.emit(thing)
            return 1
        return [thing, 1] if way == "in a list" else thing

    try:
        if way in {"argument", "constant", "global"}:
            thing = odd(members, raises, "x")
            if way == "argument":
                lb.task(id).submit(thing).result(60)
            elif way == "constant":
                lb.task(id).submit(lb.put(thing)).result(60)
            else:
                lb.task(lambda: id(thing)).submit().result(60)
        else:
            lb.task(made).submit().result(60)
    except (Exception, getattr(builtins, raises)):
        pass  # it is the object's own, or tells of it
    next_one_runs()
    assert pid() == before
