"""What the tests of the broker share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nblb.broker.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    assert list(journal.replay()) == []
    yield journal
    journal.close()
