"""The poller: which questions it asks, for how long, and what it does without a core."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.monitoring import poller as module
from nblb.monitoring.access import Viewer
from nblb.monitoring.poller import STATUS, Poller, Question
from tests.monitoring.fake_source import FakeSource
from tests.waiting import wait_until

USERS = Question("users")


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def test_only_named_questions_are_asked_and_only_for_a_while(source: FakeSource) -> None:
    now = [100.0]
    poller = Poller(source.connect, clock=lambda: now[0])
    poller._started = True  # this test is the thread
    poller.read(USERS)
    poller.poll()
    assert source.asked == ["status", "users"]
    now[0] += module.ASKED_FOR_S + 0.1
    poller.poll()
    assert source.asked[2:] == ["status"]
    assert poller.read().get(USERS) is None


def test_equal_questions_of_two_pages_are_one(source: FakeSource) -> None:
    poller = Poller(source.connect)
    poller._started = True
    poller.read(Question.of("page", user="anna", offset=0))
    poller.read(Question.of("page", offset=0, user="anna"))
    poller.poll()
    assert source.asked == ["status", "page"]


def test_questions_are_bounded(source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_QUESTIONS", 3)
    poller = Poller(source.connect)
    poller._started = True
    for n in range(10):
        poller.read(Question.of("page", user=f"u{n}"))
    poller.poll()
    assert source.asked.count("page") == 3


def test_a_search_is_asked_until_it_has_an_answer(source: FakeSource) -> None:
    parts = iter([0.2, 0.7, 1.0])
    source.answer_page = lambda: {"rows": [], "total": 0, "searched": next(parts)}  # type: ignore[attr-defined]
    poller = Poller(source.connect)
    poller._started = True
    question = Question.of("page", search="x")
    poller.read(question)
    poller.poll()
    assert source.asked == ["status", "page", "page", "page"]
    assert poller.read().get(question)["searched"] == 1.0


def test_a_wrong_question_costs_only_its_own_answer(source: FakeSource) -> None:
    def wrong() -> Any:
        raise LookupError("tasks cannot be sorted by 'colour'")

    source.answer_page = wrong  # type: ignore[attr-defined]
    poller = Poller(source.connect)
    poller._started = True
    question = Question.of("page", sort="colour")
    poller.read(question, USERS)
    poller.poll()
    picture = poller.read()
    assert "colour" in picture.errors[question]
    assert picture.get(USERS)
    assert picture.error == ""


def test_core_away_and_back(source: FakeSource) -> None:
    poller = Poller(source.connect)
    poller._started = True
    poller.poll()
    source.away = True
    poller.poll()
    assert "No core answers" in poller.read().error
    assert poller.read().status["name"] == "lab-5799", "the last answers stay"
    number = poller.read().number
    poller.poll()
    assert poller.read().number == number, "the same error is no news"
    source.away = False
    poller.poll()
    assert poller.read().error == ""


def test_a_new_question_is_asked_at_once_and_without_pages_nothing_is(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_AFTER_S", 0.3)
    poller = Poller(source.connect, every_s=0.05)
    try:
        poller.read(STATUS)
        wait_until(lambda: source.asked, 10, "the first round")
        wait_until(lambda: poller._clock() - poller._looked_at > 0.6, 10, "a while")
        before = len(source.asked)
        wait_until(lambda: poller._clock() - poller._looked_at > 1.2, 10, "a while more")
        assert len(source.asked) <= before + 1
        poller.read(USERS)
        wait_until(lambda: poller.read(USERS).get(USERS), 10, "the answer to a new question")
    finally:
        poller.stop()


def test_an_order_is_followed_by_a_round(source: FakeSource) -> None:
    poller = Poller(source.connect)
    assert poller.order("anything", Viewer("anna", "admin", is_owner=True)) == 3
    assert source.orders == ["anything"]
    assert poller._looked.is_set()
