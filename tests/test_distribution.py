"""The suite's files are distributed over processes so that no process ends with the long ones."""

from __future__ import annotations

import pytest

from tests.distribution import choose

SHORT, LONG, BROWSER = "tests/hub/slots/test_slots.py", "tests/chaos/test_soak.py", "tests/browser/test_cards.py"


@pytest.mark.parametrize(
    ("scopes", "is_browser_busy", "chosen"),
    [
        ([SHORT, LONG, BROWSER], False, BROWSER),
        ([SHORT, LONG, BROWSER], True, LONG),
        ([SHORT, BROWSER], True, SHORT),
        ([BROWSER], True, BROWSER),
        ([SHORT, LONG], False, LONG),
    ],
)
def test_long_ones_first_and_one_browser(scopes: list[str], is_browser_busy: bool, chosen: str) -> None:
    assert choose(scopes, is_browser_busy) == chosen
