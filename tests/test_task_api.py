"""The functions that a task calls while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nblb import task_api


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    words: list[tuple[float, str]] = []
    monkeypatch.setattr(task_api, "reporter", lambda percent, note: words.append((percent, note)))
    return words


def test_outside_a_worker_nothing_happens(capsys: pytest.CaptureFixture[str]) -> None:
    task_api.progress(10, "note")
    assert list(task_api.track(range(3))) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_progress_stays_between_0_and_100(said: list[tuple[float, str]]) -> None:
    for percent in (-5, 12.5, 1000):
        task_api.progress(percent, "x")
    assert said == [(0.0, "x"), (12.5, "x"), (100.0, "x")]


def test_track_follows_the_items(said: list[tuple[float, str]]) -> None:
    assert list(task_api.track("abcd", note="letters")) == list("abcd")
    assert said == [(25.0, "letters"), (50.0, "letters"), (75.0, "letters"), (100.0, "letters")]


def test_track_takes_a_total_where_there_is_no_length(said: list[tuple[float, str]]) -> None:
    def three() -> Iterator[int]:
        yield from range(3)

    assert list(task_api.track(three(), total=2)) == [0, 1, 2]
    assert said == [(50.0, ""), (100.0, ""), (100.0, "")]


def test_track_counts_where_nothing_is_known(said: list[tuple[float, str]]) -> None:
    assert list(task_api.track(iter([7, 8]), note="row")) == [7, 8]
    assert said == [(0.0, "row 1"), (0.0, "row 2")]


def test_a_loop_that_is_left_early_says_nothing_more(said: list[tuple[float, str]]) -> None:
    for _ in task_api.track(range(4)):
        break
    assert said == []


def test_outside_a_worker_a_knob_has_its_default_and_emitting_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    task_api.emit({"a": 1})
    assert task_api.knob("lr", 0.1, min=0, max=1, step=0.1) == 0.1
    assert task_api.knob("mode", "fast") == "fast"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("", 1), TypeError, "must be a text"),
        (("lr", [1]), TypeError, "a number, a text"),
        (("lr", 2, 3, 4), ValueError, "not within 3..4"),
        (("lr", 2, None, 1), ValueError, "not within None..1"),
        (("mode", "a", 0), TypeError, "no min and max"),
    ],
)
def test_mistakes_in_a_knob_are_said_everywhere(arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        task_api.knob(*arguments)
