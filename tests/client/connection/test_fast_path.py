"""A caller spins for an answer only while this helps it and does not disturb others."""

from __future__ import annotations

from itertools import pairwise

from nblb.client.connection.fast_path import GAP_S, LONGEST_S, MOST_MISSED, SPIN_S, AdaptiveSpin

STEP_S = GAP_S / 10


class Looks:
    """What a look finds, and when: after so many of its moments, or never."""

    def __init__(self, processors: int = 2) -> None:
        self.now = 0.0
        self.step_s = STEP_S
        self.moments = 0
        self.found_after: int | None = None
        self.keenness = AdaptiveSpin(self._clock, processors)

    def _clock(self) -> float:
        self.now += self.step_s
        return self.now

    def _poll(self, timeout_ms: int) -> bool:
        assert timeout_ms == 0
        self.moments += 1
        return self.moments == self.found_after

    def wait(self, found_after: int | None = None) -> bool:
        self.moments, self.found_after = 0, found_after
        return self.keenness.looks(self._poll)


def test_a_caller_waits_on_the_line_for_longer_than_it_spins() -> None:
    assert LONGEST_S > 10 * SPIN_S


def test_it_looks_until_the_answer_is_there() -> None:
    looks = Looks()
    for _ in range(5):
        assert looks.wait(found_after=20)
        assert looks.moments == 20


def test_a_look_in_vain_ends_soon_and_is_followed_by_waits_without_more_of_them_each_time() -> None:
    looks, looked_at = Looks(), []
    for number in range(10 * MOST_MISSED):
        begun = looks.now
        assert not looks.wait()
        if looks.moments:
            looked_at.append(number)
            assert looks.now - begun <= SPIN_S + 2 * STEP_S
    pauses = [after - before - 1 for before, after in pairwise(looked_at)]
    assert pauses[:4] == [1, 3, 7, 15]
    assert max(pauses) == MOST_MISSED


def test_who_was_interrupted_for_long_leaves_the_processor_to_others() -> None:
    looks = Looks()
    looks.step_s = 2 * GAP_S
    assert not looks.wait()
    assert looks.moments == 1
    assert not looks.wait(found_after=1)
    assert looks.moments == 0


def test_looks_that_are_good_again_are_forgiven() -> None:
    looks = Looks()
    for _ in range(3):
        looks.keenness._to_miss = 0
        looks.wait()
    looks.keenness._to_miss = 0
    for _ in range(5):
        assert looks.wait(found_after=3)
    assert not looks.wait()
    assert looks.keenness._to_miss == 1


def test_on_one_processor_nobody_looks() -> None:
    looks = Looks(processors=1)
    assert not looks.wait(found_after=1)
    assert looks.moments == 0
