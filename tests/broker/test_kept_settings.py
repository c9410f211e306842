"""Settings that are kept for the next start of the core."""

from __future__ import annotations

from pathlib import Path

import pytest

from nblb.broker import kept_settings
from nblb.broker.policy import adapting
from nblb.scheduling.adapting.policy import Adapting


def test_a_setting_comes_back_until_it_is_removed(tmp_path: Path) -> None:
    kept_settings.keep(tmp_path, "adapt", {"minimum": 1, "maximum": 4, "idle_s": 30.0})
    assert adapting(tmp_path) == Adapting(1, 4)
    kept_settings.keep(tmp_path, "adapt", None)
    kept_settings.keep(tmp_path, "adapt", None)
    assert adapting(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"minimum": 3, "maximum": 1}', '{"minimum": "a", "maximum": 1}'])
def test_a_damaged_file_or_limits_that_cannot_be_count_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapt.json").write_text(text)
    assert adapting(tmp_path) is None
