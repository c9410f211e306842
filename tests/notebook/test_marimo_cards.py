"""Registration of the cards in marimo; tests/browser/test_marimo.py shows them in a real one."""

from __future__ import annotations

import pytest

import nblb as lb
from nblb.client import front_end
from nblb.notebook import marimo_cards


def test_the_clients_objects_get_marimos_display_and_lose_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "_pictures", {})
    marimo_cards.install()
    assert callable(lb.Job._display_)  # type: ignore[attr-defined]
    assert front_end.wait_shown()[0] is marimo_cards.show_awaited
    marimo_cards.remove()
    assert not hasattr(lb.Job, "_display_")
    assert front_end.wait_shown() == (None, "")
