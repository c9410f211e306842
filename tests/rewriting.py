"""`pytest --rewrite`: writes the expected outputs again, to be read before they are committed.

Only commit such a change if you understand what caused it.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="rewrite expected traces and generated diagrams")


def compare(path: Path, made: str, rewrite: bool) -> None:
    """The file says what the program makes of it; with `rewrite` it is made to."""
    if rewrite:
        path.write_text(made, encoding="utf-8")
    kept = path.read_text(encoding="utf-8")
    assert made == kept, f"{path.name} is stale: read the difference, then run pytest --rewrite"
