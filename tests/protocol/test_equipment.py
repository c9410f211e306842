"""What workers have, and what tasks need: which worker takes which task, and which needs are refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nblb.protocol.equipment import PLAIN, Equipment, Needs, checked_needs, class_of, refusal

GPU = Equipment(gpus=1.0, reserved=True)


@pytest.mark.parametrize(
    ("has", "needs", "takes"),
    [
        (PLAIN, None, True),
        (PLAIN, Needs(gpus=0.5), False),
        (PLAIN, Needs(memory_mb=4000), True),  # without a limit in the group, its share decides
        (PLAIN, Needs(features=("a",)), False),
        (GPU, None, False),
        (GPU, Needs(gpus=0.5), True),
        (GPU, Needs(gpus=1.0), True),
        (GPU, Needs(gpus=2.0), False),
        (GPU, Needs(memory_mb=10), False),
        (Equipment(gpus=1.0), None, True),
        (Equipment(gpus=0.5, reserved=True), Needs(gpus=1.0), False),
        (Equipment(features=("a", "b")), Needs(features=("b",)), True),
        (Equipment(features=("a", "b")), None, True),
        (Equipment(features=("a", "b"), reserved=True), None, False),
        (Equipment(features=("a", "b"), reserved=True), Needs(features=("a",)), True),
        (Equipment(features=("a",), reserved=True), Needs(memory_mb=10), False),
        (Equipment(memory_mb=1000), Needs(memory_mb=1000), True),
        (Equipment(memory_mb=1000), Needs(memory_mb=1001), False),
        (Equipment(memory_mb=1000, reserved=True), Needs(memory_mb=1), True),
        (Equipment(memory_mb=1000, reserved=True), None, False),
        (Equipment(gpus=1.0, features=("a",), reserved=True), Needs(features=("a",)), False),
    ],
)
def test_which_workers_take_which_tasks(has: Equipment, needs: Needs | None, takes: bool) -> None:
    assert has.takes(needs) is takes


def test_classes_of_workers() -> None:
    gpu = Equipment(gpus=0.5).worker_class
    assert gpu == GPU.worker_class == class_of(Needs(gpus=2.0))
    assert PLAIN.worker_class == Equipment(features=("a",)).worker_class == class_of(None) == ""
    licensed = Equipment(features=("a",), reserved=True).worker_class
    assert licensed not in ("", gpu)


def test_the_least_equipment_comes_first() -> None:
    kinds = [GPU, Equipment(features=("a",)), Equipment(gpus=0.5), PLAIN, Equipment(memory_mb=5)]
    assert sorted(kinds, key=lambda has: has.size) == [PLAIN, kinds[4], kinds[1], kinds[2], GPU]


def test_needs_and_equipment_as_text() -> None:
    assert str(Needs(1.0, 8000, ("matlab",))) == "gpus=1, memory_mb=8000, needs=['matlab']"
    assert str(Equipment(2.0, 8000, ("avx512",))) == "2 GPUs, 8,000 MB, avx512"
    assert str(PLAIN) == ""


def test_options_become_needs() -> None:
    assert checked_needs() is None
    assert checked_needs(1, 8000, ["b", "a", "b"]) == Needs(1.0, 8000, ("a", "b"))
    assert checked_needs(needs="matlab") == Needs(features=("matlab",))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"gpus": -1}, "gpus is -1"),
        ({"gpus": 1.5}, "whole number of cards"),
        ({"gpus": True}, "gpus is True"),
        ({"gpus": float("nan")}, "gpus is nan"),
        ({"gpus": "1"}, "gpus is '1'"),
        ({"memory_mb": 1.5}, "whole number of MB"),
        ({"memory_mb": -1}, "0 or more"),
        ({"needs": [1]}, "list of names"),
        ({"needs": [""]}, "printable characters"),
        ({"needs": ["x" * 101]}, "printable characters"),
        ({"needs": [str(n) for n in range(65)]}, "at most 64"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        checked_needs(**options)


@pytest.mark.parametrize(
    "needs", [Needs(float("inf")), Needs(-1.0), Needs(memory_mb=-5), Needs(features=("b", "a")), Needs()]
)
def test_what_another_program_sends_is_checked(needs: Needs) -> None:
    assert refusal(needs)
    assert not refusal(Needs(1.0, 5, ("a", "b")))


def test_needs_travel_in_few_bytes() -> None:
    assert msgspec.json.encode(Needs(gpus=1.0)) == b'{"gpus":1.0}'
