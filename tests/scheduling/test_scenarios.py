"""The stories of tests/scenarios, which also document the scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rewriting import compare
from tests.scheduling.scenario import Story

STORIES = sorted((Path(__file__).parent.parent / "scenarios").glob("*.txt"))


def test_there_are_stories() -> None:
    assert len(STORIES) >= 15


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_story_is_as_told(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text(encoding="utf-8")
    compare(path, Story().run(text), request.config.getoption("--rewrite"))
