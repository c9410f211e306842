from __future__ import annotations

from typing import Any

import pytest

from nblb.notebook.cards.cluster_card import ClusterCard
from nblb.notebook.kernel.environment import Mode
from tests.notebook.fakes import FakeCluster


def test_scale_and_stop() -> None:
    cluster: Any = FakeCluster()
    card = ClusterCard(cluster, Mode.LIVE)
    assert card.act(cluster, "scale", 2) == "scaling to 2 workers"
    assert "this computer has" in card.act(cluster, "scale", 9_000)
    assert card.act(cluster, "stop", None) == "stopped"
    assert [call for call, _ in cluster.calls] == ["scale", "scale", "stop"]
    assert card.look(cluster, 0.0).now["over"]


def test_a_stopped_cluster_is_started_again_by_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster: Any = FakeCluster()
    again: Any = FakeCluster()
    monkeypatch.setattr("nblb.launch.start", lambda parameters: again)
    card = ClusterCard(cluster, Mode.LIVE)
    card.act(cluster, "stop", None)
    assert card.look(cluster, 0.0).now["can"]["start"]
    assert card.act(cluster, "start", None) == "started"
    assert card._thing is again, "the card shows the cluster that runs now"
    assert not card.look(again, 0.0).now["over"]


@pytest.mark.parametrize("value", [-1, 10_000, "4", None, 2.5])
def test_numbers_of_workers_that_make_no_sense_are_refused(value: object) -> None:
    cluster: Any = FakeCluster()
    assert "whole number from 0" in ClusterCard(cluster, Mode.LIVE).act(cluster, "scale", value)
    assert not cluster.calls
