"""The sentences around the Monitor's tables."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.monitoring.poller import STATUS, ClusterPicture
from nblb.monitoring.wording import STALE_AFTER_S, banner, note, summary


def picture(error: str = "", taken_at: float = 5.0, **status: Any) -> ClusterPicture:
    return ClusterPicture(taken_at=taken_at, answers={STATUS: status}, error=error)


def test_no_banner_over_fresh_data() -> None:
    assert banner(picture(), STALE_AFTER_S) == ""


@pytest.mark.parametrize(
    ("shown", "age_s", "words"),
    [
        (picture(error="<b>gone</b>"), 75.0, ["Core unreachable", "1 min 15 s old", "&lt;b&gt;gone"]),
        (picture(error="gone", taken_at=0.0), 0.0, ["Core unreachable"]),
        (picture(taken_at=0.0), 0.0, ["Connecting", 'role="status"']),
        (picture(), 12.0, ["STALE", "12 s", 'role="alert"']),
    ],
)
def test_a_banner_says_why_what_is_shown_is_not_fresh(shown: ClusterPicture, age_s: float, words: list[str]) -> None:
    text = banner(shown, age_s)
    assert all(word in text for word in words)
    assert ("What is shown" in text) == bool(shown.error and shown.taken_at)


def test_the_numbers_at_the_top() -> None:
    text = summary(picture(workers=1200, busy=3, counts={"DONE": 1_000_000}))
    assert "<dt>Workers</dt><dd>1,200</dd>" in text
    assert "<dt>Done</dt><dd>1,000,000</dd>" in text
    assert "<dt>Failed</dt><dd>0</dd>" in text
    assert "<dd>0</dd>" in summary(ClusterPicture(answers={STATUS: None}))


def test_small_print_is_escaped_and_names_the_viewer() -> None:
    shown = picture(name="<lab>", host="h", uptime_s=61, durability="none")
    text = note(shown, 2.0, "<anna>, admin")
    assert "&lt;lab&gt;" in text
    assert "1 min 1 s" in text
    assert "in memory only" in text
    assert "data 2 s old" in text
    assert "&lt;anna&gt;, admin" in text
    assert "data never old" in note(ClusterPicture(), float("inf"), "")
