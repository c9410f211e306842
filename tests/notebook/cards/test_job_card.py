from __future__ import annotations

import pytest

from nblb.client import task_decorator
from nblb.client.snapshots import INDEX, MARKED, STATES
from nblb.notebook.cards import static_html
from nblb.notebook.cards.job_card import JobCard, fit
from nblb.notebook.kernel.environment import Mode
from tests.notebook.fakes import FakeEarlier, FakeJob


def test_a_longer_job_is_folded_and_a_single_failure_stays_visible() -> None:
    states = bytearray([INDEX["DONE"]] * 1_000_000)
    states[777_777] = INDEX["FAILED"]
    states[5] = INDEX["RUNNING"]
    folded = fit(bytes(states), 10_000, list(STATES))
    assert len(folded) == 10_000
    assert folded[7777] == INDEX["FAILED"]
    assert folded[0] == INDEX["RUNNING"]
    assert set(folded[1:7777]) == {INDEX["DONE"]}


def test_every_state_keeps_its_number() -> None:
    states = bytes(range(len(STATES)))
    assert fit(states, 10_000, list(STATES)) == states
    for code in states:
        assert fit(bytes([code]) * 4, 1, list(STATES)) == bytes([code])


@pytest.mark.parametrize(
    ("choice", "said", "then"),
    [
        ("cancel", "cancelling the earlier one", "the earlier job was cancelled (other arguments); 163 results"),
        ("keep", "both go on; lb.attach('j0')", "the earlier job (other arguments) goes on beside this one, 37 of 200"),
        ("neither", "", "the earlier job (other arguments) goes on, 37 of 200 tasks left; 163 results"),
    ],
)
def test_what_becomes_of_the_job_that_lost_its_name_is_a_choice(choice: str, said: str, then: str) -> None:
    job = FakeJob()
    card = JobCard(job, Mode.HTML)  # type: ignore[arg-type]
    assert "earlier" not in card.described(job)  # type: ignore[arg-type]
    assert card.act(job, "earlier", "cancel") == ""  # type: ignore[arg-type]
    job.earlier = FakeEarlier()
    assert card.described(job)["can"]["earlier"]  # type: ignore[arg-type]
    assert card.act(job, "earlier", choice).startswith(said)  # type: ignore[arg-type]
    described = card.described(job)  # type: ignore[arg-type]
    assert described["can"]["earlier"] is (choice == "neither")
    assert then in static_html.text(described)
    assert then in static_html.html(described)


@pytest.mark.parametrize(("items", "strips"), [(200, 5), (10_000, 1)])
def test_the_strip_keeps_up_with_the_counts_where_it_is_short(items: int, strips: int) -> None:
    """Else that of a job that was attached to is grey for a second while the bar has moved already."""
    job = FakeJob(total=items)
    card = JobCard(job, Mode.HTML)  # type: ignore[arg-type]
    card.widget = object()  # type: ignore[assignment]
    looks = [card.look(job, 100.0 + step / 5) for step in range(5)]  # type: ignore[arg-type]
    assert sum(look.strip is not None for look in looks) == strips


def test_what_was_stopped_early_has_a_square_and_a_word_of_its_own() -> None:
    job = FakeJob(total=20, age=1000.0)
    job.kept = {3, 7}
    card = JobCard(job, Mode.HTML)  # type: ignore[arg-type]
    card.widget = object()  # type: ignore[assignment]
    look = card.look(job, 100.0)  # type: ignore[arg-type]
    assert look.strip is not None
    words = [card.states[code] for code in look.strip]
    assert [item for item, (state, _, word) in enumerate(words) if (state, word) == ("KEPT", "stopped early")] == [3, 7]
    assert look.now["counts"] == [("DONE", "✓", "done", 18), ("KEPT", "◑", "stopped early", 2)]
    assert look.now["text"] == "20 of 20 tasks, 2 stopped early"
    assert "◑ 2 stopped early" in static_html.text(look.now)
    assert "◑ 2 stopped early" in static_html.html(look.now)
    assert fit(look.strip, 5, list(MARKED))[0] == MARKED.index("KEPT")


def test_the_new_code_is_offered_once_the_function_was_defined_anew() -> None:
    job = FakeJob(bad={3}, age=1000.0)
    job._task_name = "simulate_anew"
    card = JobCard(job, Mode.HTML)  # type: ignore[arg-type]

    def offered() -> bool:
        return bool(card.look(job, 100.0).now["can"]["renew"])  # type: ignore[arg-type]

    assert not offered()
    assert card.act(job, "renew", None) == "simulate_anew has not changed"  # type: ignore[arg-type]
    mended = task_decorator.task(name="simulate_anew")(lambda x: x)
    assert offered()
    said = card.act(job, "renew", None)  # type: ignore[arg-type]
    assert said == "running the failed tasks again, with the new code"
    assert job.retried_with == [mended]
    assert not offered(), "nothing has failed"


def test_the_opened_item_alone_is_retried() -> None:
    job = FakeJob(bad={3, 7}, age=100)
    job._task_name = "defined once"
    card = JobCard(job, Mode.HTML)  # type: ignore[arg-type]
    card._opened = 3
    item = card.look(job, 0.0).now["item"]  # type: ignore[arg-type]
    assert item["can"] == {"retry": True, "renew": False}
    assert card.act(job, "retry_item", None) == "running item 3 again"  # type: ignore[arg-type]
    assert job.bad == {7}
    card._opened = 5
    assert card.act(job, "retry_item", None) == "item 5 has not failed"  # type: ignore[arg-type]
    assert card.act(job, "retry", None) == "running the failed tasks again"  # type: ignore[arg-type]
    assert card.act(job, "retry", None) == "nothing of it has failed"  # type: ignore[arg-type]
