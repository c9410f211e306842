"""nblb report, with a core that is not there and with a real one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from nblb.cli import main
from nblb.cli.report import span


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800.0), ("6h", 21600.0), ("2d", 172800.0), ("1w", 604800.0)])
def test_times(text: str, seconds: float) -> None:
    assert span(text) == seconds


@pytest.mark.parametrize("text", ["", "w", "2w", "1", "0h", "-1h", "1y", "1.5h"])
def test_wrong_times(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at most a week"):
        span(text)


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["out.html"], ["a", "b", "out.html"], ["sweep", "out.html", "--since", "1h"]):
        assert main(["report", *words]) == 1
        assert "give a job and a file" in capsys.readouterr().err


def test_of_a_real_cluster(
    cluster: Any, parameters_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nblb as lb

    lb.task(abs, name="absolute").map([-1, 2], job="two").results()
    out = tmp_path / "out.html"
    assert main(["report", "two", str(out), "-p", parameters_file]) == 0
    assert "Job two" in out.read_text()
    assert main(["report", "--since", "1h", str(out), "-p", parameters_file]) == 0
    assert "absolute" in out.read_text()
    assert main(["report", "three", str(out), "-p", parameters_file]) == 1
    assert "knows no job 'three'" in capsys.readouterr().err
    assert main(["report", "two", str(tmp_path / "no" / "x.html"), "-p", parameters_file]) == 1
