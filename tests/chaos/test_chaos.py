"""A short play of chaos in every run; NBLB_CHAOS_KILLS=50 makes it longer, NBLB_CHAOS_SEED repeats one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos.play import play

if TYPE_CHECKING:
    from nblb.parameters import Parameters

KILLS = int(os.environ.get("NBLB_CHAOS_KILLS", "12"))
SEED = int(os.environ.get("NBLB_CHAOS_SEED", "4"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * KILLS)
def test_whatever_is_killed_no_promise_is_broken(parameters: Parameters, tmp_path: Path) -> None:
    played = play(parameters, tmp_path / "play", KILLS, SEED)
    print(played.summary())
    assert played.verdict.problems == []
    assert played.verdict.acked > 0


@pytest.mark.slow
@pytest.mark.timeout(120 + 15 * KILLS)
def test_whatever_else_happens_no_promise_is_broken(parameters: Parameters, tmp_path: Path) -> None:
    played = play(parameters, tmp_path / "play", KILLS, SEED, troubles=True)
    print(played.summary())
    assert played.verdict.problems == []
    assert played.verdict.acked > 0
