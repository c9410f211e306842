"""A few rounds of chaos between computers; `python -m tests.chaos.computers --rounds 100` plays more."""

from __future__ import annotations

import pytest

from tests.chaos import computers
from tests.hosts import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60 + 2 * computers.END_S),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


def test_a_client_has_all_its_results_whatever_happens_between_computers() -> None:
    assert computers.run(rounds=8, seed=3) == []
