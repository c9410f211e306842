from __future__ import annotations

import concurrent.futures
from typing import Any

from nblb.client.futures.group import FutureGroup
from nblb.notebook.cards import static_html
from nblb.notebook.cards.group_card import GroupCard
from nblb.notebook.kernel.environment import Mode


def test_a_group_looks_like_a_job_that_can_only_be_cancelled() -> None:
    futures: list[concurrent.futures.Future[Any]] = [concurrent.futures.Future() for _ in range(4)]
    futures[0].set_result(1)
    group = FutureGroup("fits", futures)
    card = GroupCard(group, Mode.HTML)
    described = card.described(group)
    assert described["can"] == {"cancel": True, "start": False}
    assert described["text"] == "1 of 4 tasks"
    assert "fits: ▶ running" in static_html.text(described)
    card.widget = object()  # type: ignore[assignment]
    strip = card.look(group, 0.0).strip
    assert strip is not None
    assert len(strip) == 4
    assert card.act(group, "cancel", None) == "cancelling what has not ended"
    assert card.act(group, "retry", None) == ""
