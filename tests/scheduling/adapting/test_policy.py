"""The rule of adapting: bounds, growth, no flapping, and the sentence about it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.scheduling.adapting.policy import FIRST, TARGET_S, Adapting, AdaptPolicy, Demand, need, refusal, sentence

counts = st.integers(0, 2000)
demands = st.builds(
    Demand,
    workers=counts,
    busy=counts,
    soon=st.integers(0, 50),
    measured=counts,
    seconds=st.floats(0.0, 1e5),
    unmeasured=counts,
)


def moves(chosen: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(chosen) if after != before]


@given(st.lists(demands, min_size=1, max_size=60), st.integers(0, 20), st.integers(0, 2000), st.floats(0.0, 60.0))
def test_limits_hold_and_busy_workers_are_never_too_many(
    loads: list[Demand], minimum: int, more: int, idle_s: float
) -> None:
    policy = AdaptPolicy(Adapting(minimum, minimum + more, idle_s))
    for second, load in enumerate(loads):
        wanted = policy.choose(load, float(second))
        assert minimum <= wanted <= minimum + more
        assert wanted >= min(load.busy, minimum + more)
        assert wanted <= max(minimum, *(need(each) for each in loads[: second + 1]))


@settings(max_examples=25)
@given(st.lists(demands, min_size=40, max_size=80))
def test_it_shrinks_only_when_less_was_enough_for_idle_s(loads: list[Demand]) -> None:
    policy = AdaptPolicy(Adapting(0, 100_000, 30.0))
    chosen = [policy.choose(load, float(second)) for second, load in enumerate(loads)]
    for second in range(1, len(chosen)):
        assert chosen[second] == max(need(load) for load in loads[max(0, second - 30) : second + 1])


@pytest.mark.parametrize("period", [4, 10, 20, 30])
def test_a_sawtooth_within_idle_s_starts_and_ends_no_worker(period: int) -> None:
    policy = AdaptPolicy(Adapting(0, 16, 30.0))
    chosen = []
    for second in range(600):
        left = period - second % period  # the queue rises at once, and falls until nothing is left
        load = Demand(workers=16, measured=8 * (left - 1), seconds=8.0 * (left - 1))
        chosen.append(policy.choose(load, float(second)))
    assert moves(chosen) == []


def test_a_slow_sawtooth_grows_and_shrinks_once_per_cycle() -> None:
    policy = AdaptPolicy(Adapting(0, 8, 30.0))
    chosen = [
        policy.choose(Demand(workers=8, measured=8, seconds=80.0) if second % 100 < 10 else Demand(), float(second))
        for second in range(1000)
    ]
    assert moves(chosen)[:3] == [-8, 8, -8]
    assert len(moves(chosen)) == 19


def test_calls_without_measurement_double_the_workers() -> None:
    policy, workers, seen = AdaptPolicy(Adapting(0, 100)), 0, []
    for second in range(5):
        busy = min(workers, 1000)
        workers = policy.choose(Demand(workers=workers, busy=busy, unmeasured=1000), float(second))
        seen.append(workers)
    assert seen == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, 100]


def test_measured_calls_need_as_many_workers_as_end_them_in_time() -> None:
    assert need(Demand(measured=1000, seconds=10.0)) == 10.0 / TARGET_S
    assert need(Demand(measured=3, seconds=3000.0)) == 3  # a worker for each call, and no more
    assert need(Demand(measured=1000, seconds=0.001)) == 1
    assert need(Demand(busy=4, soon=4, measured=4, seconds=4.0)) == 4  # those that are soon free are enough
    assert need(Demand(busy=4, soon=0, measured=4, seconds=4.0)) == 6
    assert need(Demand()) == 0


def test_the_sentence_has_number_and_reason() -> None:
    limits = Adapting(0, 8)
    policy = AdaptPolicy(limits)
    policy.choose(Demand(busy=2, measured=1, seconds=0.5), 0.0)
    assert sentence(limits, policy.wanted, policy.why) == (
        "adapts between 0 and 8 workers: 3 wanted, because 2 are busy and 1 call waits"
    )
    policy.choose(Demand(), 10.0)
    assert policy.why == "so many were needed within the last 30 s; now nothing waits"
    policy.choose(Demand(unmeasured=100), 20.0)
    assert policy.why == "100 calls wait"
    policy.choose(Demand(workers=8, busy=8, measured=100, seconds=400.0), 21.0)
    assert policy.why == "8 are busy and 100 calls wait (about 400 s of work), and that is the maximum"
    assert not policy.is_settled
    policy.choose(Demand(), 60.0)
    assert (policy.wanted, policy.why, policy.is_settled) == (0, "nothing waits", True)


def test_limits_that_cannot_be_are_refused() -> None:
    assert "the smaller one first" in refusal(Adapting(3, 2))
    assert "from 0 to" in refusal(Adapting(-1, 2))
    assert "from 0 to" in refusal(Adapting(0, 10**9))
    assert "idle_s is nan" in refusal(Adapting(0, 2, float("nan")))
    assert refusal(Adapting(0, 0)) == ""
