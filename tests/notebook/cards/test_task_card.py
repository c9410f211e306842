from __future__ import annotations

from nblb.notebook.cards.task_card import TaskCard
from nblb.notebook.kernel.environment import Mode
from tests.notebook.fakes import FakeTask


def test_failures_travel_apart_from_what_changes_often() -> None:
    task = FakeTask(fails=True, age=10)
    card = TaskCard(task, Mode.LIVE)  # type: ignore[arg-type]
    found = card.look(task, 0.0)  # type: ignore[arg-type]
    assert "failures" not in found.now
    assert found.failures[0]["title"] == "ValueError at cell In[3] line 4: x must be >= 0"
    assert "epoch 2" in found.now["output"]


def test_cancel() -> None:
    task = FakeTask()
    card = TaskCard(task, Mode.LIVE)  # type: ignore[arg-type]
    assert card.act(task, "cancel", None) == "cancelling"  # type: ignore[arg-type]
    assert task.calls[0][0] == "cancel"


def test_a_card_says_how_much_of_the_output_it_shows_and_shows_more_when_asked() -> None:
    task = FakeTask()
    card = TaskCard(task, Mode.LIVE)  # type: ignore[arg-type]
    assert not card.look(task, 0.0).now["can"]["more"]  # type: ignore[arg-type]
    task.output_bytes = 103 * 2**20
    found = card.look(task, 1.0)  # type: ignore[arg-type]
    assert found.now["output_note"] == "16 B of 103 MB shown; f.stdout has all"
    assert (found.now["can"]["more"], found.output) == (True, None)
    assert card.act(task, "more", None)  # type: ignore[arg-type]
    found = card.look(task, 1.1)  # type: ignore[arg-type]
    assert found.output == "epoch 0\nepoch 1\nepoch 2\n"
    assert (found.now["output_note"], found.now["can"]["more"]) == ("24 B of 103 MB shown; f.stdout has all", False)
    assert card.look(task, 1.5).output is None  # type: ignore[arg-type]
    assert card.look(task, 2.2).output is not None  # type: ignore[arg-type]
