"""A minute of the soak, and the verdict of its referee on a cluster that grows."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos.samples import Sample, not_level
from tests.chaos.soak import TURNS, soak

if TYPE_CHECKING:
    from nblb.parameters import Parameters

PERIODS = int(os.environ.get("NBLB_SOAK_PERIODS", "12"))
PERIOD_S = float(os.environ.get("NBLB_SOAK_PERIOD_S", "5"))


@pytest.mark.slow
@pytest.mark.timeout(300 + 2 * PERIODS * PERIOD_S)
def test_a_cluster_that_is_used_and_killed_for_long_holds_no_more_than_before(
    parameters: Parameters, tmp_path: Path
) -> None:
    soaked = soak(parameters, tmp_path / "play", PERIODS, PERIOD_S, ease=8.0)
    print(soaked.played.summary())
    assert soaked.problems == []
    assert soaked.played.verdict.acked > 0
    assert soaked.played.kills == PERIODS
    assert set(soaked.played.by_kind) == set(TURNS)


LEVEL = Sample(0.0, "core", 30.0, 30, 30.0, 40, 1.0, 4.0, 40, 10.0, 0.3)


def test_the_judge_sees_what_grows() -> None:
    assert not_level([LEVEL] * 30) == []
    assert not_level([replace(LEVEL, core_mib=30.0 + n % 5) for n in range(30)]) == []
    for name in ("core_mib", "core_fds", "hub_mib", "hub_fds", "journal_mib", "blobs", "blobs_mib"):
        grown = [replace(LEVEL, **{name: 2**n}) for n in range(30)]
        (problem,) = not_level(grown)
        assert problem.startswith(f"{name} grew")
    life = [replace(LEVEL, killed="core" if n == 5 else "hub", core_mib=30.0 + 5 * n) for n in range(6)]
    problems = not_level(life * 5)
    assert len(problems) == 5
    assert all(problem.startswith("core_mib grew within a life") for problem in problems)
    assert not_level([replace(LEVEL, wal_mib=200.0)] * 3) == ["the WAL had 200 MiB"]
