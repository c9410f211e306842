from __future__ import annotations

import pytest

from nblb.notebook.cards import wording


@pytest.mark.parametrize(
    ("eta", "said"),
    [
        (None, ""),
        ((20.1, 30.2), "20 to 30 s left"),
        ((50, 130), "50 s to 2 min 10 s left"),
        ((60.2, 59.9), "about 1 min left"),
        ((0.0, 0.1), "about 1 s left"),
    ],
)
def test_time_left_is_a_range_once_there_is_one(eta: tuple[float, float] | None, said: str) -> None:
    assert wording.time_left(eta) == said


def test_rates_keep_their_digits() -> None:
    assert [wording.rate(r) for r in (0, 118.4, 2.54, 0.2, 0.005)] == ["", "118/s", "2.5/s", "12/min", "18/h"]


def test_progress_is_said_as_screen_readers_hear_it() -> None:
    assert wording.progress_text({"DONE": 117, "FAILED": 6, "RUNNING": 8}, 200) == "123 of 200 tasks, 6 failed"
    assert wording.progress_text({"DONE": 1}, 1) == "1 of 1 task"


def test_the_bar_is_full_exactly_when_all_have_ended() -> None:
    assert wording.percent(99.9, {"DONE": 199}, 200) == 99
    assert wording.percent(50.0, {"DONE": 100, "CANCELLED": 100}, 200) == 100
    assert wording.percent(0.0, {}, 0) == 100


def test_clipped_text_says_how_much_is_missing() -> None:
    assert wording.clip("short", 10) == "short"
    clipped = wording.clip("a" * 50 + "b" * 50, 20)
    assert clipped.startswith("a" * 10)
    assert clipped.endswith("b" * 10)
    assert "80 characters" in clipped


def test_places() -> None:
    assert (wording.places(()), wording.places(("lab1",))) == ("", "on lab1")
    assert wording.places(("a", "b", "c", "d", "e")) == "on a, b, c and 2 more hosts"
