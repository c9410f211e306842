"""`nblb simulate`."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from nblb.cli import simulate
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
    assert "see it again: nblb simulate --seed " in said


def test_one_history_with_its_trace(run: Any) -> None:
    code, said = run("--seed", "3")
    assert code == 0
    assert "SubmitTask" in said
    assert said.rstrip().endswith("seed 3: no promise was broken")


def test_what_if(run: Any) -> None:
    code, said = run("--users", "2", "--hubs", "2", "--workers", "2", "--tasks", "50", "--seconds", "0.1")
    assert code == 0
    assert said.startswith("50 tasks of about 0.1 s from 2 users, on 2 hubs of 2 workers\n")
    for word in ("makespan", "utilisation", "decisions/s", "user1"):
        assert word in said
    code, said = run("--tasks", "40", "--json")
    assert json.loads(said)["users"][0]["tasks"] == 14
