"""The page with the charts of a forecast."""

from __future__ import annotations

from pathlib import Path

import pytest

from nblb.errors import NblbError
from nblb.simulation.planning import plot
from nblb.simulation.what_if import Load, what_if


def test_one_file_with_charts_and_figures(tmp_path: Path) -> None:
    answer = what_if(
        Load(users=3, hubs=1, workers=2, tasks=30, jobs=2, pattern="daily", shares=(2.0, 1.0)), lambda: 0.0
    )
    path = tmp_path / "f.html"
    plot.write(answer, "a <load>", path)
    text = path.read_text()
    assert "a &lt;load&gt;" in text
    assert "makespan" in text
    assert "https://cdn" not in text.split("<h1>")[1]
    assert dict(plot.figures(answer))["utilisation"].endswith("%")


def test_another_suffix_and_a_folder_that_is_missing(tmp_path: Path) -> None:
    answer = what_if(Load(users=1, hubs=1, workers=1, tasks=2), lambda: 0.0)
    with pytest.raises(NblbError, match=r"must end with \.html"):
        plot.write(answer, "x", tmp_path / "f.svg")
    with pytest.raises(NblbError, match="cannot be written"):
        plot.write(answer, "x", tmp_path / "none" / "f.html")
