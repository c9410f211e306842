"""The run time of an item, learned from slices of any length."""

from __future__ import annotations

import pytest

from nblb.protocol.messages import SubmitTask
from nblb.scheduling.placement import SMOOTHING, Estimates
from nblb.scheduling.submission import Submission


def a_record() -> Submission:
    return Submission(SubmitTask(task="t", name="f", function="f"), "anna", 1, 0.0, None)


def test_a_long_slice_says_more_than_a_single_item_and_a_short_one_no_more_than_the_others() -> None:
    estimates, record = Estimates(), a_record()
    estimates.learn(record, 200e-6, 1)  # its function was loaded, and there was a slice around it
    assert estimates.item_s(record) == pytest.approx(200e-6)
    estimates.learn(record, 150e-6, 100)
    assert estimates.item_s(record) == pytest.approx(0.01 * 200e-6 + 0.99 * 1.5e-6)
    known = estimates.item_s(record)
    assert known is not None
    estimates.learn(record, 100e-6, 1)
    assert estimates.item_s(record) == pytest.approx(known + SMOOTHING * (100e-6 - known))


def test_slices_of_one_length_are_averaged() -> None:
    estimates, record = Estimates(), a_record()
    seconds = 1.0
    estimates.learn(record, 10 * seconds, 10)
    for latest in (2.0, 0.5, 7.0):
        seconds += SMOOTHING * (latest - seconds)
        estimates.learn(record, 10 * latest, 10)
        assert estimates.item_s(record) == pytest.approx(seconds)
