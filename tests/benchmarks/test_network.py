"""The figures of the network, with few and small tasks: that they are measured, not what they are."""

from __future__ import annotations

import pytest

from tests.benchmarks import network
from tests.hosts import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


def test_each_figure_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TRIPS": 5, "SUBMITS": 50, "LONG_MIB": 3}.items():
        monkeypatch.setattr(network, name, value)
    found = network.measure(1)
    assert len(found) == 12
    assert all(value > 0 for value in found.values())
    assert found["3 MiB up at 100 Mbit/s: of the wire's time"] > 0.9
