"""A function is pickled again if it may have changed, and only then."""

from __future__ import annotations

import array
import dataclasses
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from nblb import payload
from nblb.client.submit.function_cache import MAX_FUNCTIONS, FunctionCache, Watch
from nblb.client.task_decorator import task

numpy = pytest.importorskip("numpy")


@pytest.fixture
def dumps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was pickled."""
    pickled: list[Any] = []
    dump = payload.dump_function

    def counted(function: Callable[..., Any], by_content: bool, reach: payload.Reach | None) -> Any:
        pickled.append(function)
        return dump(function, by_content, reach)

    monkeypatch.setattr(payload, "dump_function", counted)
    return pickled


def in_main(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(source, namespace)
    return namespace


@dataclasses.dataclass
class Settings:
    depth: int = 1


class Opaque:
    def __init__(self) -> None:
        self.value = 1


def test_nothing_is_pickled_twice(dumps: list[Any]) -> None:
    shelf = FunctionCache()
    namespace = in_main("import math\nK = 3\ndef g(x): return x + K\ndef f(x, y=2): return math.sqrt(g(x)) + y")
    blobs = {shelf.blob(namespace["f"]).hash for _ in range(10)}
    assert len(blobs) == len(dumps) == 1


CHANGES: dict[str, tuple[Any, Callable[[Any], None]]] = {
    "list": ([1, 2], lambda v: v.__setitem__(0, 5)),
    "list that grows": ([1, 2], lambda v: v.append(3)),
    "nested": ({"a": [{"b": [1]}]}, lambda v: v["a"][0]["b"].append(2)),
    "dict": ({"a": 1}, lambda v: v.update(a=2)),
    "set": ({1, 2}, lambda v: v.add(3)),
    "tuple of lists": (([1], 2), lambda v: v[0].append(2)),
    "bytearray": (bytearray(b"abc"), lambda v: v.__setitem__(0, 0)),
    "array.array": (array.array("d", [1.0, 2.0]), lambda v: v.__setitem__(1, 9.0)),
    "numpy array": (numpy.zeros(1000), lambda v: v.__setitem__(999, 1)),
    "large numpy array": (numpy.zeros(100_000), lambda v: v.__setitem__(5, 1)),
    "shape": (numpy.zeros((2, 6)), lambda v: v.resize((3, 4), refcheck=False)),
    "strided": (numpy.zeros((10, 10)).T[::2], lambda v: v.__setitem__((0, 0), 1)),
    "array of objects": (numpy.array([[], None], dtype=object), lambda v: v[0].append(1)),
    "array of dates": (numpy.zeros(3, "datetime64[s]"), lambda v: v.__setitem__(0, 77)),
    "dataclass": (Settings(), lambda v: setattr(v, "depth", 2)),
    "an object": (Opaque(), lambda v: setattr(v, "value", 2)),
    "partial": (functools.partial(max, [1]), lambda v: v.args[0].append(2)),
    "generator of random numbers": (numpy.random.default_rng(1), lambda v: v.random()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_value_changed_in_place_is_noticed(what: str) -> None:
    value, change = CHANGES[what]
    shelf = FunctionCache()

    def closure() -> Any:
        return value

    global_one = in_main("def f(): return V")["f"]
    global_one.__globals__["V"] = value
    default = in_main("def f(v=None): return v")["f"]
    default.__defaults__ = (value,)
    functions = (closure, global_one, default)
    before = [shelf.blob(function).hash for function in functions]
    assert [shelf.blob(function).hash for function in functions] == before
    change(value)
    assert all(shelf.blob(f).hash != old for f, old in zip(functions, before, strict=True))


def test_other_changes_are_noticed() -> None:
    shelf = FunctionCache()
    namespace = in_main(
        "K = 1\nclass C:\n    n = [1]\n    def m(self): return K\n"
        "def g(): return K\ndef f(): return g(), C().m(), late if 'late' in globals() else 0"
    )
    f = namespace["f"]
    seen = [shelf.blob(f).hash]

    def changed() -> bool:
        seen.append(shelf.blob(f).hash)
        return seen[-1] != seen[-2]

    assert not changed()
    namespace["K"] = 2
    assert changed()
    namespace["g"].__code__ = (lambda: 5).__code__
    assert changed()
    namespace["C"].n.append(2)
    assert changed()
    namespace["C"].m = lambda self: 7
    assert changed()
    namespace["late"] = 3
    assert changed()
    f.note = "an attribute"
    assert changed()
    namespace["g"] = lambda: 6
    assert changed()
    assert not changed()


def test_a_cell_that_is_bound_again(dumps: list[Any]) -> None:
    n = 1

    def f() -> int:
        return n

    shelf = FunctionCache()
    first = shelf.blob(f).hash
    n = 2
    assert shelf.blob(f).hash != first


def test_tasks_are_seen_through() -> None:
    namespace = in_main("def g(): return 1\ndef f(): return g()")
    namespace["g"] = task(namespace["g"])
    watch = Watch(namespace["f"])
    assert not watch.opaque
    assert watch.unchanged(namespace["f"])


def test_constants_cost_nothing(dumps: list[Any]) -> None:
    import datetime as dt
    import enum
    import pathlib

    class Colour(enum.Enum):
        RED = 1

    values = (1, "x", b"y", 2.0, 3j, None, ..., dt.date(2026, 1, 1), pathlib.Path("/"), Colour.RED, range(3))
    numbers = (numpy.float64(1), numpy.dtype("f8"), numpy.sin)

    def f() -> Any:
        return values, numbers

    assert not Watch(f).opaque


def test_old_functions_are_not_kept_for_ever() -> None:
    shelf, functions = FunctionCache(), [in_main(f"def f(): return {n}")["f"] for n in range(3 * MAX_FUNCTIONS)]
    for function in functions:
        shelf.blob(function)
    assert len(shelf._kept) == MAX_FUNCTIONS


class Model:
    def __init__(self, size: int) -> None:
        self.weights = bytes(size)

    def step(self) -> int:
        return len(self.weights)


def holding(value: Any) -> Callable[[], Any]:
    return lambda: value


def test_what_a_function_captured_goes_with_it() -> None:
    shelf, model, table = FunctionCache(), Model(10), numpy.zeros(10)
    closure = holding(table)
    shelf.blob(model.step)
    shelf.blob(closure)
    gone = weakref.ref(model), weakref.ref(table)
    del model, table, closure
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert not shelf._kept


def test_blobs_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nblb.client.submit.function_cache.MAX_BYTES", 10_000)
    shelf = FunctionCache()
    functions = [in_main(f"K = {'x' * 4000!r} + str({n})\ndef f(): return K")["f"] for n in range(10)]
    for function in functions:
        shelf.blob(function)
    assert len(shelf._kept) == 2


def test_callable_objects() -> None:
    class Adder:
        def __init__(self) -> None:
            self.n = 1

        def __call__(self, x: int) -> int:
            return x + self.n

    adder, shelf = Adder(), FunctionCache()
    first = shelf.blob(adder)
    assert (shelf.blob(adder).hash, first.name) == (first.hash, "Adder")
    adder.n = 2
    assert shelf.blob(adder).hash != first.hash
