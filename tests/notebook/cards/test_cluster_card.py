from __future__ import annotations

from typing import Any

import pytest

from nblb.notebook.cards.cluster_card import ClusterCard
from nblb.notebook.kernel.environment import Mode
from tests.notebook.fakes import FakeCluster


def test_scale_and_stop() -> None:
    cluster: Any = FakeCluster()
    card = ClusterCard(cluster, Mode.LIVE)
    assert card.act(cluster, "scale", 6) == "scaling to 6 workers"
    assert card.act(cluster, "stop", None) == "stopped"
    assert [call for call, _ in cluster.calls] == ["scale", "stop"]
    assert card.look(cluster, 0.0).now["over"]


@pytest.mark.parametrize("value", [-1, 10_000, "4", None, 2.5])
def test_numbers_of_workers_that_make_no_sense_are_refused(value: object) -> None:
    cluster: Any = FakeCluster()
    assert "whole number from 0" in ClusterCard(cluster, Mode.LIVE).act(cluster, "scale", value)
    assert not cluster.calls
