from __future__ import annotations

import pytest

from nblb.notebook.cards.stop_card import StopCard
from nblb.notebook.kernel.environment import Mode
from tests.notebook.fakes import FakeJob


@pytest.mark.parametrize(
    ("fate", "calls", "word"),
    [("detach", [], "goes on"), ("cancel", ["cancel"], "cancelled"), ("kill", ["kill"], "killed")],
)
def test_one_choice_is_made_once(fate: str, calls: list[str], word: str) -> None:
    job = FakeJob()
    card = StopCard(job, Mode.HTML)
    assert all(card.described(job)["can"].values())
    card.act(job, fate, None)
    card.act(job, "kill", None)
    assert [call for call, _ in job.calls] == calls
    said = card.described(job)
    assert (said["look"][1], said["over"], any(said["can"].values())) == (word, True, False)


def test_what_ended_meanwhile_needs_no_choice() -> None:
    job = FakeJob(age=1000)
    assert StopCard(job, Mode.HTML).described(job)["state"] == "ended"
