"""Of results that arrive together, only those that raise when they are loaded are lost."""

from __future__ import annotations

import operator
import pickle
from collections import OrderedDict
from typing import Any

import pytest

from nblb import payload
from nblb.payload import NotLoaded
from nblb.payload.salvage import salvage
from nblb.protocol.framing import Payload


class Raises:
    """Raises when it is loaded, in the way that its name says."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        if self.how == "call":
            return operator.truediv, (1, 0)
        if self.how == "state":
            return Raises, ("state",), {"a": 1}
        if self.how == "new":
            return pickle.loads, (b"cno_such_module\nThing\n.",)
        if self.how == "exit":
            return exit, (3,)
        return Raises, (self.how,)

    def __setstate__(self, _state: Any) -> None:
        raise ValueError("no state")


class Present:
    pass


HARMFUL = {
    "call": Raises("call"),
    "state": Raises("state"),
    "new": Raises("new"),
    "exit": Raises("exit"),
    "deep": {"a": [1, (2, {"b": Raises("call")})]},
    "key": {(1, 2): [Raises("state")]},
    "in a class": OrderedDict([(1, Raises("call"))]),
}


@pytest.mark.parametrize("harm", sorted(HARMFUL))
@pytest.mark.parametrize("place", [0, 1, 4])
def test_only_what_raises_is_lost(harm: str, place: int) -> None:
    results: list[Any] = [0, "one", [2, (2, {2})], {"three": b"3"}, Ellipsis]
    results[place] = HARMFUL[harm]
    packed = payload.pack_results(results)
    with pytest.raises(BaseException):  # noqa: B017  # as one pickle they cannot be loaded
        payload.unpack_results(packed)
    found, is_whole = payload.unpack_each_result(packed)
    assert not is_whole
    assert [n for n, result in enumerate(found) if isinstance(result, NotLoaded)] == [place]
    assert [one for n, one in enumerate(found) if n != place] == [one for n, one in enumerate(results) if n != place]


def test_many_results_and_many_that_raise() -> None:
    results = [Raises("call") if n % 7 == 3 else n for n in range(2501)]  # pickle writes a list in batches of 1,000
    found = payload.unpack_each_result(payload.pack_results(results))[0]
    assert [n for n, one in enumerate(found) if isinstance(one, NotLoaded)] == list(range(3, 2501, 7))
    assert [one for one in found if not isinstance(one, NotLoaded)] == [n for n in range(2501) if n % 7 != 3]


@pytest.mark.parametrize("shared", [Raises("call"), [Raises("state")], {"a": (Raises("call"),)}])
def test_a_part_that_two_results_share_is_lost_in_both(shared: Any) -> None:
    found = payload.unpack_each_result(payload.pack_results([shared, 1, [shared], 2]))[0]
    assert [isinstance(one, NotLoaded) for one in found] == [True, False, True, False]


def test_results_of_one_class_of_which_one_raises() -> None:
    found = payload.unpack_each_result(payload.pack_results([Fussy(n) for n in range(5)]))[0]
    assert [getattr(one, "n", None) for one in found] == [0, 1, None, 3, 4]
    assert isinstance(found[2], NotLoaded)
    assert str(found[2].error) == "two is too many"


class Fussy:
    def __init__(self, n: int) -> None:
        self.n = n

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["n"] == 2:
            raise LookupError("two is too many")
        self.__dict__ = state


def test_a_class_that_is_not_here() -> None:
    data = pickle.dumps([1, Present, 3]).replace(b"Present", b"Missing")
    one, missing, three = salvage([data])
    assert (one, three) == (1, 3)
    assert isinstance(missing.error, AttributeError)


def test_arrays_are_loaded_beside_one_that_raises() -> None:
    numpy = pytest.importorskip("numpy")
    large = numpy.arange(200_000.0)
    packed = payload.pack_results([large, Raises("call"), large[:10] + 1])
    first, lost, third = payload.unpack_each_result(packed)[0]
    assert isinstance(lost, NotLoaded)
    assert (first == large).all()
    assert third.tolist() == (large[:10] + 1).tolist()


def test_what_raises_outside_the_results_is_raised() -> None:
    with pytest.raises(pickle.UnpicklingError):
        payload.unpack_each_result(Payload((b"\x80\x04.",)))
    with pytest.raises(ZeroDivisionError):
        salvage([pickle.dumps(Raises("call"))])


def test_a_task_that_needs_a_good_result_gets_it_beside_one_that_raises() -> None:
    from nblb.protocol.messages import HoldBlob

    packed = payload.pack_results([10, Raises("call"), 30])
    results = payload.joined_results([HoldBlob(hash="t", payload=packed, total=3)])
    assert payload.resolve(payload.Input("t", 2), {"t": results}, {}) == 30
    with pytest.raises(ZeroDivisionError):
        payload.resolve(payload.Input("t", 1), {"t": results}, {})
    with pytest.raises(ZeroDivisionError):
        payload.resolve(payload.Input("t", None), {"t": results}, {})
