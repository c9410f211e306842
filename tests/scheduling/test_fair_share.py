"""The user whose turn it is: fewest occupied workers, then least recent use, then the oldest task."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.access.limits import Limits
from nblb.protocol.messages import SubmitTask, TaskState
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band, FairShare, lead, standing
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Submission


class Bench:
    """Users with tasks, and workers that never finish unless told."""

    def __init__(self) -> None:
        self.share = FairShare(halflife_s=100.0)
        self.band = self.share.band(0.0, 1000.0)
        self.number = 0
        self.given: list[Slice] = []

    def add(self, name: str, priority: float = 0.0, count: int = 1) -> None:
        user = self.share.user(name)
        for _ in range(count):
            self.number += 1
            spec = SubmitTask(task=f"t{self.number}", name="f", function="h", priority=priority)
            if user.add(Submission(spec, name, self.number, 0.0, None).begin(TaskState.QUEUED, 0.0)):
                self.share.line_changed(user, priority)

    def next(self, band: Band | None = None) -> str:
        band = band or self.band
        entry = band.first()
        if entry is None:
            return ""
        user, task = entry[3:]
        assert task is user.best(band.low, band.high)
        user.drop(task, band)
        task.move("RunTask", 0.0)
        user.occupied += 1
        if user.is_special:
            self.share.assigned(user)
        self.given.append(task)
        return user.name

    def finish(self, name: str, seconds: float, now: float) -> None:
        user: UserQueue = self.share.user(name)
        user.occupied -= 1
        self.share.charge(user, seconds, now)

    def end(self, n: int, now: float, back: bool) -> None:
        """Some worker is free again; `back`: without having begun with the task, which waits again."""
        task = self.given.pop(n % len(self.given))
        user = self.share.user(task.record.user)
        if not back:
            self.finish(user.name, 1.0 + n % 3, now)
            return
        user.occupied -= 1
        task.move("TaskReturned", now)
        self.share.standing_changed(user)
        if user.add(task):
            self.share.line_changed(user, task.record.spec.priority)

    def cancel(self, name: str, n: int) -> None:
        """One of the user's waiting tasks is not wanted any more."""
        user = self.share.user(name)
        waiting = list(user.tasks())
        if waiting:
            task = waiting[n % len(waiting)]
            task.move("CancelTask", 0.0)
            user.cancelled(task)
            self.share.line_changed(user, task.record.spec.priority)

    def order(self, count: int) -> str:
        return " ".join(self.next() for _ in range(count))


def test_the_user_with_the_fewest_workers_is_next() -> None:
    bench = Bench()
    bench.add("anna", count=6)
    bench.add("bob", count=2)
    bench.add("cleo", count=1)
    assert bench.order(10) == "anna bob cleo anna bob anna anna anna anna "


def test_a_late_comer_catches_up_at_once() -> None:
    bench = Bench()
    bench.add("anna", count=10)
    assert bench.order(4) == "anna anna anna anna"
    bench.add("bob", count=10)
    assert bench.order(6) == "bob bob bob bob anna bob"


def test_a_priority_does_not_buy_another_users_turn() -> None:
    bench = Bench()
    bench.add("anna", priority=0.0, count=3)
    bench.add("bob", priority=1000.0, count=3)
    assert bench.order(4) == "anna bob anna bob"


def test_ties_go_to_whoever_has_used_least_of_late() -> None:
    bench = Bench()
    bench.add("anna", count=5)
    bench.add("bob", count=5)
    assert bench.order(2) == "anna bob"
    bench.finish("anna", 10.0, now=10.0)
    bench.finish("bob", 4.0, now=10.0)
    assert bench.order(2) == "bob anna"


def test_old_use_is_forgotten_by_halves() -> None:
    bench = Bench()
    bench.add("anna", count=5)
    bench.add("bob", count=5)
    assert bench.order(2) == "anna bob"
    bench.finish("anna", 10.0, now=10.0)
    bench.finish("bob", 4.0, now=210.0)  # anna's ten seconds are worth 2.5 by now
    assert bench.order(2) == "anna bob"


def test_then_the_oldest_task_decides() -> None:
    bench = Bench()
    bench.add("zoe")
    bench.add("anna")
    bench.add("mia")
    assert bench.order(3) == "zoe anna mia"


def test_a_week_without_work_does_not_overflow() -> None:
    bench = Bench()
    bench.add("anna", count=3)
    bench.add("bob", count=3)
    bench.order(4)
    bench.finish("anna", 10.0, now=0.0)
    bench.finish("bob", 1.0, now=1e6)
    bench.finish("bob", 1.0, now=1e6)
    bench.finish("anna", 5.0, now=1e9)
    assert bench.share.user("anna").usage > bench.share.user("bob").usage
    assert bench.order(2) == "bob anna"


def test_each_band_has_its_own_turns() -> None:
    bench = Bench()
    high = bench.share.band(100.0, 1000.0)
    bench.add("anna", priority=5.0, count=2)
    bench.add("bob", priority=500.0)
    assert bench.next(high) == "bob"
    assert bench.next(high) == ""
    assert bench.order(2) == "anna anna"


def test_a_band_that_comes_late_learns_of_all_who_wait() -> None:
    bench = Bench()
    bench.add("anna", priority=5.0)
    bench.add("bob", priority=7.0)
    low = bench.share.band(0.0, 6.0)
    assert bench.next(low) == "anna"
    assert bench.next(low) == ""


def test_the_line_stays_short() -> None:
    bench = Bench()
    for name in ("anna", "bob", "cleo"):
        bench.add(name, count=400)
    for turn in range(1000):
        name = bench.next()
        bench.finish(name, 0.001, now=turn * 0.01)
    assert len(bench.band.line) <= 64 + 4 * 3


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "next", "next", "next", "end", "back", "cancel"]),
            st.sampled_from("abcd"),
            st.sampled_from([0.0, 5.0, 50.0]),
            st.integers(0, 1000),
        ),
        max_size=80,
    )
)
def test_the_turn_is_the_simple_rules(steps: list[tuple[str, str, float, int]]) -> None:
    """Whatever happened before, a look at all users finds the same one."""
    bench = Bench()
    bands = [bench.band, bench.share.band(0.0, 10.0), bench.share.band(5.0, 60.0)]
    for time, (what, name, priority, n) in enumerate(steps):
        band = bands[n % 3]
        oldest = {
            user: min((t.record.number for t in user.tasks() if band.takes(t.record.spec.priority)), default=None)
            for user in bench.share.users.values()
        }
        waiting = [user for user, number in oldest.items() if number is not None]
        rule = min(waiting, key=lambda user: (user.occupied, user.usage, oldest[user]), default=None)
        if what == "add":
            bench.add(name, priority)
        elif what == "next":
            assert bench.next(band) == (rule.name if rule is not None else "")
        elif what == "cancel":
            bench.cancel(name, n)
        elif bench.given:
            bench.end(n, float(time), back=what == "back")


# ── shares and groups ──


def served(bench: Bench, turns: int, workers: int, seconds: float = 1.0) -> Counter[str]:
    """How often each user gets a worker, while `workers` end their slices in turn, the oldest first."""
    got: Counter[str] = Counter()
    running: list[str] = []
    for turn in range(turns):
        if len(running) == workers:
            bench.finish(running.pop(0), seconds, float(turn))
        name = bench.next()
        got[name] += 1
        running.append(name)
    return got


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("one", "other"), [(2.0, 1.0), (3.0, 1.0), (1.0, 0.5), (3.0, 2.0)])
def test_who_has_twice_the_share_gets_twice_the_workers(workers: int, one: float, other: float) -> None:
    bench = Bench()
    bench.share.limit([Limits("anna", share=one), Limits("bob", share=other)])
    bench.add("anna", count=400)
    bench.add("bob", count=400)
    got = served(bench, 360, workers)
    assert got["anna"] / got["bob"] == pytest.approx(one / other, rel=0.06)


def test_workers_are_shared_between_groups_first() -> None:
    bench = Bench()
    bench.share.limit([Limits(name, group="lab") for name in ("a", "b", "c")])
    for name in ("a", "b", "c", "alone"):
        bench.add(name, count=200)
    got = served(bench, 180, 6)
    assert got["alone"] == pytest.approx(90, abs=6)
    assert all(got[name] == pytest.approx(30, abs=4) for name in "abc")


def test_shares_count_within_a_group_and_between_groups() -> None:
    bench = Bench()
    bench.share.limit(
        [Limits("a", share=3.0, group="lab"), Limits("b", group="lab"), Limits("lab", "group", share=2.0)]
    )
    for name in ("a", "b", "alone"):
        bench.add(name, count=400)
    got = served(bench, 360, 5)
    assert got["alone"] == pytest.approx(120, abs=8)
    assert got["a"] == pytest.approx(180, abs=12)
    assert got["b"] == pytest.approx(60, abs=8)


def test_a_limit_on_workers_holds_a_user_back_until_one_ends() -> None:
    bench = Bench()
    bench.share.limit([Limits("anna", max_running=2)])
    bench.add("anna", count=9)
    assert [bench.next() for _ in range(3)] == ["anna", "anna", ""]
    bench.add("bob", count=2)
    assert [bench.next() for _ in range(3)] == ["bob", "bob", ""]
    bench.finish("anna", 1.0, 1.0)
    assert [bench.next() for _ in range(2)] == ["anna", ""]


def test_a_limit_of_a_group_counts_all_its_users() -> None:
    bench = Bench()
    bench.share.limit([Limits("a", group="lab"), Limits("b", group="lab"), Limits("lab", "group", max_running=3)])
    bench.add("a", count=5)
    bench.add("b", count=5)
    got = Counter(bench.next() for _ in range(4))
    assert got[""] == 1
    assert {got["a"], got["b"]} == {1, 2}
    bench.finish("a", 1.0, 1.0)
    assert bench.next() in ("a", "b")
    assert bench.next() == ""


def test_a_change_counts_at_once() -> None:
    bench = Bench()
    bench.add("anna", count=50)
    bench.add("bob", count=50)
    assert Counter(bench.next() for _ in range(6)) == {"anna": 3, "bob": 3}
    bench.share.limit([Limits("anna", share=3.0)])
    assert Counter(bench.next() for _ in range(6)) == {"anna": 6}
    bench.share.limit([])
    assert Counter(bench.next() for _ in range(6)) == {"bob": 6}


def test_recent_use_is_a_users_own_whatever_the_share_was() -> None:
    share = FairShare(halflife_s=100.0)
    anna = share.user("anna")
    share.charge(anna, 10.0, 0.0)
    share.limit([Limits("anna", share=4.0, group="lab")])
    assert share.recent_s(anna, 0.0) == pytest.approx(10.0)
    assert share.groups["lab"].usage == pytest.approx(10.0)
    share.limit([])
    assert share.recent_s(anna, 100.0) == pytest.approx(5.0)


def test_lead_compares_users_of_a_group_and_else_groups() -> None:
    share = FairShare(halflife_s=100.0)
    share.limit([Limits("a", group="lab"), Limits("b", group="lab")])
    a, b, c = (share.user(name) for name in "abc")
    a.occupy(3)
    b.occupy(1)
    c.occupy(2)
    assert (lead(a, b), lead(b, a)) == (2, -2)
    assert (lead(b, c), lead(c, a)) == (2, -2)
    assert standing(b) < standing(a)
    assert standing(c) < standing(b)
