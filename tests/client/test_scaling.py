"""The requests of scale and adapt, and the limits that people write."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.client.cluster import Cluster
from nblb.client.scaling import adapt_limits
from nblb.errors import NblbError
from nblb.protocol.messages import AdaptWorkers, ScaleHub
from tests.client.fake_core import FakeCore


def test_adapt_sends_the_limits_and_none_turns_it_off(cluster: Cluster, core: FakeCore) -> None:
    cluster.adapt(1, 8)
    cluster.adapt(0, 4, idle_s=5.0)
    cluster.adapt(None)
    sent = [(said.minimum, said.maximum, said.idle_s, said.on) for said in core.said(AdaptWorkers)]
    assert sent == [(1, 8, 30.0, True), (0, 4, 5.0, True), (0, 0, 30.0, False)]


@pytest.mark.parametrize("limits", [(-1, 3), (4, 3), (0, None), (0.5, 3), (True, 3), ("0", "3")])
def test_wrong_limits_are_refused(cluster: Cluster, limits: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="two whole numbers"):
        cluster.adapt(*limits)


def test_a_scale_that_changes_nothing_still_ends_adapting(cluster: Cluster, core: FakeCore) -> None:
    cluster.scale(2)
    assert core.said(ScaleHub) == []
    assert [said.on for said in core.said(AdaptWorkers)] == [False]


def test_the_words_of_people() -> None:
    assert adapt_limits(["0", "8"]) == (0, 8)
    assert adapt_limits(["off"]) == (None, None)
    for wrong in (["3"], ["a", "b"], ["1", "2", "3"], ["-1", "2"], ["off", "2"], ["1e3", "2"]):
        with pytest.raises(NblbError, match="give MIN and MAX"):
            adapt_limits(wrong)
