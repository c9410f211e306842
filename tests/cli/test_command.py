"""The command line: help for people, JSON for programs, and meaningful exit codes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nblb import cli, launch
from nblb.cli import command
from nblb.cli.command import table
from nblb.errors import NblbError
from nblb.launch import roles
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

COMMANDS = ("start", "stop", "status", "health", "users", "jobs", "cancel", "core", "hub", "monitor", "demo", "bench",
            "logs", "result", "inbox", "forget", "scale", "top", "completion")  # fmt: skip


def nblb(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nblb", *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def exit_code(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n    {command}" in said for command in COMMANDS)
    assert "exit codes" in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--version"]) == 0
    assert capsys.readouterr().out == "nblb 0.1.0\n"


@pytest.mark.parametrize("arguments", [["strat"], ["start", "--workers", "-1"], ["start", "--workers", "many"]])
def test_a_wrong_command_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(arguments) == 2
    assert "nblb" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "users", "jobs", "cancel"])
def test_without_a_core_each_says_what_to_do(
    command: str, parameters_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, "-p", parameters_file, *(["x"] if command == "cancel" else [])]
    assert cli.main(words) == 3
    assert "start one with %lb_start, lb.start() or 'nblb start'" in capsys.readouterr().err


def test_health_without_a_core(parameters_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["health", "--json", "-p", parameters_file]) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert said["warnings"] == ["HC - CAN'T GET WORKER LIST : LB DOWN ??"]


def test_stop_without_a_core(parameters_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stop", "-p", parameters_file]) == 0
    assert capsys.readouterr().out == "nothing was running\n"


def test_wrong_parameters_are_one_sentence(tmp_path: object) -> None:
    said = nblb("status", "-p", f"{tmp_path}/none.json")
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "none.json" in said.stderr


def test_from_start_to_stop(parameters_file: str) -> None:
    try:
        started = nblb("start", "-p", parameters_file, "--workers", "1", "--no-monitor", "--json")
        assert started.returncode == 0, started.stderr
        core = json.loads(started.stdout)["pid"]
        again = nblb("start", "-p", parameters_file, "--no-monitor", "--json")
        assert json.loads(again.stdout)["pid"] == core
        status = nblb("status", "-p", parameters_file)
        assert (status.returncode, f"core pid {core}" in status.stdout) == (0, True)
        wait_until(lambda: nblb("health", "-p", parameters_file).returncode == 0, 10, "health")
    finally:
        stopped = nblb("stop", "-p", parameters_file)
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert nblb("status", "-p", parameters_file).returncode == 3


def test_looking_and_cancelling(cluster: Cluster, parameters_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    import nblb as lb

    job = lb.task(_sleep).map([30] * 5, job="sleepers")
    wait_until(lambda: job.snapshot().counts.get("RUNNING", 0), 10, "a running task")

    def ask(*words: str) -> object:
        assert cli.main([words[0], "-p", parameters_file, "--json", *words[1:]]) == 0
        return json.loads(capsys.readouterr().out)

    rows = ask("jobs")
    assert isinstance(rows, list)
    assert [row["name"] for row in rows] == ["sleepers"]
    users = ask("users")
    assert isinstance(users, list)
    assert users[0]["running"] + users[0]["queued"] >= 5
    assert ask("cancel", "--job", "sleepers") == {"sleepers": 5}
    wait_until(lambda: job.snapshot().counts.get("CANCELLED", 0) == 5, 10, "all cancelled")
    assert cli.main(["cancel", "-p", parameters_file, "--job", "sleepers"]) == 1
    assert cli.main(["cancel", "-p", parameters_file, "nonsense"]) == 1


def _sleep(seconds: float) -> None:
    import time

    time.sleep(seconds)


def test_table() -> None:
    rows = [{"name": "a", "used_s": 1.26, "counts": {"DONE": 2, "FAILED": 0}}, {"name": "bcd", "used_s": 3.0}]
    assert table(rows, ("name", "used_s", "counts"), "none").splitlines() == [
        "name  used s  counts",
        "a     1.3     2 DONE",
        "bcd   3",
    ]
    assert table([], ("name",), "none") == "none"


def test_the_monitor_says_where_it_is_and_ends_on_sigterm(parameters: Parameters) -> None:
    process = roles.spawn("monitor", parameters)
    try:
        url = wait_until(lambda: launch.monitor_url(parameters), 60, "the Monitor's address")
        with urllib.request.urlopen(f"{url}liveness", timeout=60) as answer:
            assert answer.status == 200
        with pytest.raises(NblbError, match="the monitor of 't' runs already"):
            roles.spawn("monitor", parameters)
        second = nblb("monitor", "-p", str(parameters.runtime_dir / "parameters.json"))
        assert (second.returncode, "runs already" in second.stderr) == (1, True)
    finally:
        process.terminate()
        process.join(10)
    assert process.exitcode == 0, process.tail()
    assert launch.monitor_url(parameters) == ""


def test_a_growing_log_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "core.log"
    code = (
        "import os, sys, threading, time; from nblb.cli import roles; roles.LOG_BYTES = 1000\n"
        "print('x' * 2000, flush=True); threading.Thread(target=roles._bound_log, daemon=True).start()\n"
        "while os.fstat(1).st_size: time.sleep(0.01)\n"
        "print('after', flush=True)"
    )
    with log.open("ab") as output:
        subprocess.run([sys.executable, "-c", code], stdout=output, check=True, timeout=60)
    assert log.read_text() == "after\n"
    assert log.with_suffix(".log.1").stat().st_size == 1000


def test_bench_without_a_cluster_starts_one_and_stops_it(parameters_file: str) -> None:
    said = nblb("bench", "-p", parameters_file, "--json", "--cases", "latency", "--seconds", "20")
    assert said.returncode == 0, said.stderr
    (latency,) = json.loads(said.stdout)["cases"]
    assert latency["figures"]["p50_us"] > 0
    assert nblb("status", "-p", parameters_file).returncode == 3


def test_bench_refuses_what_it_cannot_do(parameters_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "-p", parameters_file, "--seconds", "0"]) == 1
    assert "--seconds is 0; it must be above 0" in capsys.readouterr().err


def test_names_cannot_control_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "\x1b[2Jx\n\x07" + "y" * 1_000_000, "state": 7}]
    command.show(argparse.Namespace(json=False), rows, lambda: command.table(rows, ("name", "state"), "none") + "\x1bc")
    shown = capsys.readouterr().out
    assert "\\x1b[2Jx\\n\\x07yyy" in shown
    assert "\x1b" not in shown
    assert len(shown) < 2_000
    command.show(argparse.Namespace(json=True), rows, str)
    assert "\x1b" not in capsys.readouterr().out
