"""The figures with which the simulator checks shares, groups and limits."""

from __future__ import annotations

from random import Random

from nblb.access.limits import Limits
from nblb.simulation.standing import Standing, change_limits, draw_limits

LAB = (
    Limits("a", share=2.0, group="lab", max_running=3),
    Limits("b", group="lab"),
    Limits("lab", "group", share=2.0, max_running=5, max_bytes=10),
    Limits("c", max_bytes=7),
)


def test_users_of_a_group_are_compared_by_their_shares_and_others_by_groups() -> None:
    standing = Standing(LAB)
    counts = {"a": 4, "b": 2, "c": 3}
    assert standing.lead(counts, "a", "b") == 0
    assert standing.lead(counts, "a", "c") == 0
    assert standing.lead(counts, "c", "d") == 3


def test_limits_of_users_and_groups() -> None:
    standing = Standing(LAB)
    assert standing.is_held({"a": 3}, "a")
    assert not standing.is_held({"a": 3}, "a", more=1)
    assert standing.is_held({"a": 1, "b": 4}, "b")
    assert not standing.is_held({"a": 1, "b": 3, "c": 9}, "b")
    assert [(limits.name, users) for limits, users in standing.most_bytes("b")] == [("lab", {"a", "b"})]
    assert [(limits.name, users) for limits, users in standing.most_bytes("c")] == [("c", {"c"})]


def test_the_same_seed_draws_the_same_limits() -> None:
    drawn = draw_limits(Random(3), ["u0", "u1", "u0"], crowded=False)
    assert drawn == draw_limits(Random(3), ["u0", "u1"], crowded=False)
    assert {each.name for each in drawn if each.of == "user"} == {"u0", "u1"}
    changed = change_limits(Random(3), drawn)
    assert len(changed) == len(drawn)
