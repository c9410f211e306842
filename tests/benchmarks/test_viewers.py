"""The benchmark of the Monitor's viewers, with tiny sizes: it runs and finds its figures. No times."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks import viewers


@pytest.mark.slow
def test_it_runs() -> None:
    words = ["--viewers", "2", "--ended", "50", "--seconds", "2", "--rounds", "1", "--pages", "0"]
    found = viewers.main(words)
    assert found["tasks a second without viewers"] > 0
    assert found["core's time for a task with 2, us"] > 0
    assert all(math.isfinite(value) for value in found.values())
