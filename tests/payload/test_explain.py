"""The reason why an object cannot be pickled: the path to the part at fault, and what to do instead."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from nblb.payload.explain import explain_unpicklable


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


def with_default(lock: Any = threading.Lock()) -> Any:  # noqa: B008
    return lock


def capturing() -> Any:
    generator = (n for n in range(3))

    def inner() -> Any:
        return generator

    return inner


def test_what_can_be_pickled_needs_no_words() -> None:
    assert explain_unpicklable([1, {"a": (2, "x")}]) == ""


@pytest.mark.parametrize(
    ("value", "path", "hint"),
    [
        (threading.Lock(), "value cannot", "make it inside the function"),
        ([1, {"a": SimpleNamespace(lock=threading.Lock())}], "value[1]['a'].lock", "a lock belongs"),
        ({3: (n for n in "x")}, "value[3]", "pass a list of its items"),
        (Slotted(), "value.lock", "a lock belongs"),
        (capturing(), "value -> captured 'generator'", "a generator cannot travel"),
        (with_default, "value -> default 1", "a lock belongs"),
        (SimpleNamespace(deep=[SimpleNamespace(lock=threading.RLock())]).deep, "value[0].lock", "a lock belongs"),
    ],
)
def test_the_part_to_blame_is_named(value: Any, path: str, hint: str) -> None:
    if callable(value):
        value.__module__ = "__main__"  # as what a notebook defines, which travels by value
    found = explain_unpicklable(value)
    assert found.startswith(path)
    assert hint in found


def test_an_open_file(tmp_path: Any) -> None:
    with (tmp_path / "data").open("w") as file:
        assert "pass its path" in explain_unpicklable({"out": file}, "argument 2")


def test_an_object_that_cannot_be_looked_at_is_blamed_itself() -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            raise RuntimeError("no")

        def __getattribute__(self, name: str) -> Any:
            if name == "__dict__":
                raise SystemExit
            return object.__getattribute__(self, name)

    assert explain_unpicklable([Hostile()]).startswith("value[0] cannot be pickled: ")
