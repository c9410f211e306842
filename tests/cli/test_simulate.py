"""`nblb simulate`."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from nblb.cli import main, simulate
from tests.simulation.mutants import planted


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        simulate.register(parser.add_subparsers())
        options = parser.parse_args(["simulate", *words])
        code = options.run(options)
        return code, capsys.readouterr().out

    return call


def test_histories_that_keep_their_promises(run: Any) -> None:
    code, said = run("--seeds", "20", "--start", "5", "--processes", "1")
    assert code == 0
    assert "20 histories, 0 violations" in said


def test_on_several_processes(run: Any) -> None:
    code, said = run("--seeds", "60", "--processes", "2", "--json")
    assert code == 0
    assert json.loads(said)["histories"] == 60


def test_a_broken_promise_is_told_with_the_command_that_replays_it(run: Any) -> None:
    with planted("ack_before_commit"):
        code, said = run("--seeds", "20", "--processes", "1")
    assert code == 1
    assert "I4: task" in said
    assert "play it again: nblb simulate --seed " in said


def test_one_history_with_its_trace(run: Any) -> None:
    code, said = run("--seed", "3")
    assert code == 0
    assert "SubmitTask" in said
    assert said.rstrip().endswith("seed 3: no promise was broken")


def test_histories_with_calls_of_all_lengths(run: Any) -> None:
    code, said = run("--seeds", "3", "--mixed", "--processes", "1", "--json")
    assert code == 0
    assert json.loads(said)["tasks"] > 30
    code, said = run("--seed", "4", "--mixed")
    assert code == 0
    assert "'2ms'" in said or "'ms'" in said or "'8ms'" in said
    with planted("work_ahead_goes_first"):
        code, said = run("--seeds", "40", "--mixed", "--processes", "1")
    assert code == 1
    assert "goes ahead to" in said
    assert " --mixed\n" in said


def test_what_if_with_tasks_of_unlike_lengths(run: Any) -> None:
    code, said = run("--users", "2", "--hubs", "1", "--workers", "2", "--tasks", "2020", "--seconds", "0.002,0.2")
    assert code == 0
    assert said.startswith("2,020 tasks of about 0.002 s or 0.2 s from 2 users, on 1 hub of 2 workers\n")
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.startswith("user")}
    assert rows["user1"][3] == "0.2"
    short, long = float(rows["user0"][-1]), float(rows["user1"][-1])  # as much work each: they are through together
    assert abs(short - long) < 1.0


BIG = "9" * 400
NONSENSE = [
    *(f"{word} {value}" for word in ("--users", "--hubs", "--workers", "--tasks", "--seeds", "--processes")
      for value in ("0", "-1", "1.5", "nan", "many", BIG)),
    *(f"{word} {value}" for word in ("--start", "--seed") for value in ("-1", "1.5", "x", BIG)),
    *(f"--seconds {value} --tasks 5" for value in ("0", "-1", "nan", "inf", "1e300", "x", "1,0", "1,,2", ",")),
    *(f"--stagger {value} --tasks 5" for value in ("-1", "nan", "inf", "1e300", "x")),
    "--users 10 --tasks 3",
    "--users 2 --seconds 1,2,3",
    "--hubs 1000000 --workers 1000000",
    "--users 999999999",
    "--tasks 999999999999",
    "--seeds 5 --users 3",
    "--mixed --tasks 5",
    "--processes 2 --hubs 2",
    "--seed 3 --seeds 5",
    "--seed 3 --processes 2",
]  # fmt: skip


@pytest.mark.parametrize("words", NONSENSE, ids=lambda words: words[:40])
def test_nonsense_is_refused_in_one_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["simulate", *words.split()])
    assert refused.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("nblb simulate: error: ")
    assert len(last) < 200


def test_what_is_large_or_small_and_makes_sense_is_played(run: Any) -> None:
    for words in ("--tasks 3 --seconds 1e7", "--users 3 --tasks 3 --stagger 1e7", "--tasks 40 --seconds 1e-9"):
        code, said = run(*words.split())
        assert code == 0
        assert "makespan" in said


def test_what_if(run: Any) -> None:
    code, said = run("--users", "2", "--hubs", "2", "--workers", "2", "--tasks", "50", "--seconds", "0.1")
    assert code == 0
    assert said.startswith("50 tasks of about 0.1 s from 2 users, on 2 hubs of 2 workers\n")
    for word in ("makespan", "utilisation", "for each decision", "user1"):
        assert word in said
    code, said = run("--tasks", "40", "--json")
    assert json.loads(said)["users"][0]["tasks"] == 14
