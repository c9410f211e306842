"""Traces in Standard Workload Format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from nblb import cli
from nblb.errors import NblbError
from nblb.simulation.planning.swf import parse, read

HEADER = "; Version: 2.2\n; MaxProcs: 8\n;\n"


def job(number: int, submit: int, run: int, processors: int, user: int, requested: int = -1) -> str:
    return f"{number} {submit} 0 {run} {processors} -1 -1 {requested} -1 -1 1 {user} 1 -1 -1 -1 -1 -1\n"


TRACE = HEADER + job(1, 100, 10, 4, 7) + job(2, 130, 20, -1, 8, requested=2) + job(3, 140, -1, 1, 7)


def test_jobs_processors_and_what_is_left_out() -> None:
    trace = parse(TRACE.splitlines(), "t.swf")
    assert [(each.at, each.user, each.items, each.lengths) for each in trace.arrivals] == [
        (0.0, "user7", 4, (10.0,) * 4),
        (30.0, "user8", 2, (20.0,) * 2),
    ]
    assert (trace.workers, trace.left_out) == (8, 1)
    assert len(parse(TRACE.splitlines(), "t.swf", most_jobs=1).arrivals) == 1


def test_a_compressed_trace_and_wrong_ones(tmp_path: Path) -> None:
    packed = tmp_path / "t.swf.gz"
    packed.write_bytes(gzip.compress(TRACE.encode()))
    assert len(read(packed).arrivals) == 2
    with pytest.raises(NblbError, match="line 2 of the trace x has 3 fields; a job has 18"):
        parse(["; a", "1 2 3"], "x")
    with pytest.raises(NblbError, match="line 1 of the trace x is no job"):
        parse(["hello there"], "x")
    with pytest.raises(NblbError, match="has no job with a run time"):
        parse([HEADER], "x")
    with pytest.raises(NblbError, match="cannot be read"):
        read(tmp_path / "none.swf")


def test_the_command_plays_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, plot = tmp_path / "t.swf", tmp_path / "t.html"
    file.write_text(TRACE)
    assert cli.main(["simulate", "--trace", str(file), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    assert (
        "2 jobs of 6 tasks from 2 users in --trace (1 job without a run time left out), on 1 hub of 8 workers" in text
    )
    assert "makespan     50.0 s" in text
    assert "<h1>Forecast</h1>" in plot.read_text()
    assert cli.main(["simulate", "--trace", str(file), "--hubs", "2", "--workers", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["makespan_s"] >= 40.0
    assert [user["user"] for user in answer["users"]] == ["user7", "user8"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--trace", "a", "--journal", "b"], "give only one"),
        (["--trace", "a", "--tasks", "5"], "--tasks describes a load"),
        (["--trace", "a", "--seeds", "5"], "--seeds is for histories"),
        (["--plot", "x.html"], "add --users"),
        (["--tasks", "10", "--shares", "0"], "not a share"),
        (["--tasks", "10", "--load", "0"], "above 0"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["simulate", *words])
    assert reason in capsys.readouterr().err
