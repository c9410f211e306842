from __future__ import annotations

from nblb.notebook.environment import Mode
from nblb.notebook.task_card import TaskCard
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
