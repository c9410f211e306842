"""The documentation shows the table of transitions as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rewriting import compare
from tests.scheduling.diagrams import with_diagrams

PAGE = Path(__file__).parent.parent.parent / "docs" / "scheduling.md"


def test_the_page_shows_the_table_as_it_is(request: pytest.FixtureRequest) -> None:
    compare(PAGE, with_diagrams(PAGE.read_text(encoding="utf-8")), request.config.getoption("--rewrite"))


def test_the_page_tells_of_each_story() -> None:
    text = PAGE.read_text(encoding="utf-8")
    stories = sorted(path.stem for path in (PAGE.parent.parent / "tests" / "scenarios").glob("*.txt"))
    missing = [name for name in stories if f"{name}.txt" not in text]
    assert not missing, f"docs/scheduling.md does not name the stories {missing}"
