"""Arguments, results and constants as payloads."""

from __future__ import annotations

import dataclasses
import pickle
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nblb import payload
from nblb.errors import NotSerializable
from nblb.payload import Packed
from nblb.protocol.framing import LARGE, Payload
from nblb.protocol.messages import RunTask, SubmitTask, client_to_core

numpy = pytest.importorskip("numpy")


class Future:
    """As the client's: stands for the result of a record."""

    def __init__(self, task: str, item: int | None = 0) -> None:
        self.stand_in = payload.Input(task, item)

    def __nblb_argument__(self) -> payload.Input:
        return self.stand_in


class Handle:
    """As that of lb.put."""

    def __init__(self, name: str) -> None:
        self.hash = name

    def __nblb_argument__(self) -> payload.Constant:
        return payload.Constant(self.hash, self)


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


def run(packed: Packed, **more: Any) -> RunTask:
    fields = {"task": "t", "attempt": 1, "name": "f", "function": "h", "items": packed.items, "split": packed.split}
    return RunTask(payload=over_the_wire(packed.payload), **{**fields, **more})


def over_the_wire(sent: Payload) -> Payload:
    (message,) = client_to_core.decode(client_to_core.encode([SubmitTask(task="t", name="f", payload=sent)]))
    return message.payload  # type: ignore[no-any-return]


def all_of(packed: Packed, **values: Any) -> list[Any]:
    calls = payload.unpack_calls(run(packed), **values)
    return [calls[n] for n in range(len(calls))]


def test_one_call() -> None:
    packed = payload.pack_call((1, "two"), {"three": [3.0]})
    assert all_of(packed) == [((1, "two"), {"three": [3.0]})]
    assert (packed.items, packed.split, packed.depends, packed.constants) == (1, False, (), ())


keywords = st.dictionaries(st.text(), st.floats(allow_nan=False))


@given(st.lists(st.tuples(st.lists(st.integers() | st.text(), max_size=3), keywords)))
def test_many_calls_are_records_that_can_be_cut_anywhere(pairs: list[Any]) -> None:
    calls = [(tuple(args), kwargs) for args, kwargs in pairs]
    records = list(payload.pack_calls(calls, max_items=4))
    assert [record.items for record in records] == [4] * (len(calls) // 4) + [len(calls) % 4] * (len(calls) % 4 > 0)
    assert [call for record in records for call in all_of(record)] == calls
    for record in records:
        for first in range(record.items):
            cut = record._replace(payload=record.payload.slice(first, 1), items=1)
            assert all_of(cut) == all_of(record)[first : first + 1]


def test_records_are_bounded_in_bytes() -> None:
    records = list(payload.pack_calls((("x" * 300_000,), {}) for _ in range(10)))
    assert [record.items for record in records] == [4, 4, 2]


def test_a_chunk_stays_one_pickle() -> None:
    packed = payload.pack_chunk([((n,), {}) for n in range(3)])
    assert (packed.items, packed.split, len(packed.payload.buffers)) == (3, False, 1)
    assert all_of(packed) == [((n,), {}) for n in range(3)]


def test_arrays_stay_out_of_band_and_writable() -> None:
    array = numpy.arange(LARGE)
    packed = payload.pack_call((array, array[:10]), {})
    assert [memoryview(b).nbytes for b in packed.payload.buffers][1:] == [array.nbytes]
    array[:] = -1  # after the submit: the task sees what was submitted
    (((big, small), _),) = all_of(packed)
    assert (big == numpy.arange(LARGE)).all()
    assert (small == numpy.arange(10)).all()
    big[0] = small[0] = 5


def test_calls_with_large_buffers_are_records_of_their_own() -> None:
    array = numpy.zeros(LARGE)
    records = list(payload.pack_calls([((1,), {}), ((array,), {}), ((2,), {}), ((3,), {}), ((array,), {})]))
    assert [(record.items, record.split) for record in records] == [
        (1, True),
        (1, False),
        (2, True),
        (1, False),
    ]
    assert [len(record.payload.buffers) for record in records] == [1, 2, 1, 2]


def test_futures_however_deep_are_replaced_by_their_results() -> None:
    args = ([Future("a"), {"k": Future("b", 2)}], Point(1, Future("a")), Future("c", None))
    packed = payload.pack_call(args, {"z": Future("b", 0)})
    assert packed.depends == ("a", "b", "c")
    inputs = {"a": ["A"], "b": [10, 11, 12], "c": [1, 2]}
    ((got, kwargs),) = all_of(packed, inputs=inputs, constants={})
    assert got == (["A", {"k": 12}], Point(1, "A"), [1, 2])
    assert kwargs == {"z": 10}


def test_stand_ins_stay_where_there_are_no_values() -> None:
    packed = payload.pack_call(([Future("a")], (Handle("h"),), {"x": 1}), {})
    (((first, second, third), _),) = all_of(packed)
    assert repr(first) == "[Input('a', 0)]"
    assert payload.resolve((first, second, third), {"a": [7]}, {"h": 8}) == ([7], (8,), {"x": 1})
    assert payload.resolve(payload.Inputs(["a", "a"]), {"a": [7]}, {}) == [7, 7]


def test_only_calls_with_futures_stand_alone_constants_do_not() -> None:
    handle = Handle("h")
    records = list(payload.pack_calls([((1,), {}), ((handle,), {}), ((Future("a"), handle), {}), ((2,), {})]))
    assert [(r.items, r.depends, r.constants) for r in records] == [
        (2, (), ("h",)),
        (1, ("a",), ("h",)),
        (1, (), ()),
    ]
    assert records[0].holders == (handle,)
    assert all_of(records[0], inputs={}, constants={"h": "value"}) == [((1,), {}), (("value",), {})]


def test_one_call_that_cannot_be_loaded_spoils_only_itself() -> None:
    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return _explode, ()

    (packed,) = payload.pack_calls([((1,), {}), ((Bad(),), {}), ((3,), {})])
    calls = payload.unpack_calls(run(packed))
    assert len(calls) == 3
    assert calls[0] == ((1,), {})
    assert calls[2] == ((3,), {})
    with pytest.raises(ArithmeticError):
        calls[1]
    with pytest.raises(IndexError):
        calls[3]


def _explode() -> None:
    raise ArithmeticError("boom")


def test_a_reduce_that_packs_calls_itself() -> None:
    class Nested:
        def __reduce__(self) -> tuple[Any, ...]:
            payload.pack_call((1, 2), {})
            return int, ("5",)

    assert all_of(payload.pack_call((Nested(), 6), {})) == [((5, 6), {})]


def test_unpicklable_arguments_are_named_by_their_path() -> None:
    bad = Point(1, {"model": [threading.Lock()]})
    with pytest.raises(NotSerializable, match=r"argument 2\.y\['model'\]\[0\] cannot be pickled.*\(a lock belongs"):
        payload.pack_call((1, bad), {})
    with pytest.raises(NotSerializable, match="argument 'm' cannot be pickled"):
        payload.pack_call((), {"m": threading.Lock()})
    with pytest.raises(NotSerializable, match=r"argument 1\.y"):
        list(payload.pack_calls([((1,), {}), ((bad,), {})]))
    with pytest.raises(NotSerializable, match=r"argument 1\.y"):
        payload.pack_chunk([((1,), {}), ((bad,), {})])
    assert all_of(payload.pack_call((1,), {})) == [((1,), {})], "the next call is not hurt"


def test_results() -> None:
    array = numpy.arange(LARGE)
    packed = over_the_wire(payload.pack_results([1, array, None, "x"]))
    one, big, nothing, text = payload.unpack_results(packed)
    assert (one, nothing, text) == (1, None, "x")
    assert (big == array).all()
    big[0] = 1
    with pytest.raises(NotSerializable, match=r"result 1\[0\]"):
        payload.pack_results([1, [threading.Lock()]])
    with pytest.raises(NotSerializable, match=r"^result cannot"):
        payload.pack_results([threading.Lock()])


def test_constants() -> None:
    name, dumped = payload.dump_constant({"a": [1, 2]})
    assert payload.load_constant(over_the_wire(dumped)) == {"a": [1, 2]}
    assert payload.dump_constant({"a": [1, 2]})[0] == name != payload.dump_constant({"a": [1, 3]})[0]
    with pytest.raises(NotSerializable, match=r"constant\['a'\]"):
        payload.dump_constant({"a": threading.Lock()})


def test_where_buffers_end_is_part_of_the_hash() -> None:
    assert payload.content_hash([b"ab", b"c"]) != payload.content_hash([b"a", b"bc"])


def test_recursive_and_hostile_things_are_only_errors() -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            raise RuntimeError("no")

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    with pytest.raises(NotSerializable, match="argument 1 cannot be pickled: no"):
        payload.pack_call((Hostile(),), {})
    loop: list[Any] = []
    loop.append(loop)
    loop.append(threading.Lock())
    assert payload.explain_unpicklable(loop, "loop").startswith("loop[1] cannot be pickled")
    assert payload.explain_unpicklable([1, "two"]) == ""
    assert pickle.loads(pickle.dumps(payload.Given(3))) == 3


def test_fifty_thousand_calls_are_packed_quickly() -> None:
    took = []
    for _ in range(3):
        began = time.thread_time()
        records = list(payload.pack_calls(((n,), {}) for n in range(50_000)))
        took.append(time.thread_time() - began)
    assert len(records) == 49
    assert min(took) < 0.15
