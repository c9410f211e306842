"""nblb demo: what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nblb import cli
from tests.conftest import nblb_processes
from tests.waiting import wait_until

WORDS = [sys.executable, "-u", "-m", "nblb", "demo", "--workers", "2"]


@pytest.fixture
def runtime(runtime_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty runtime folder of all clusters of a test."""
    folder = Path(tempfile.mkdtemp(dir=runtime_base))
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(folder))
    return folder


def test_it_shows_progress_two_deaths_and_a_share(tmp_path: Path, runtime: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    said = subprocess.run([*WORDS, "--tasks", "40"], capture_output=True, text=True, timeout=120, env=environment)
    assert said.returncode == 0, said.stderr
    assert "a cluster of 2 workers" in said.stdout
    assert re.search(r"killed the worker with pid \d+", said.stdout)
    assert re.search(r"killed the core with pid \d+", said.stdout)
    assert "pi is about 3.1" in said.stdout
    assert "no task was lost" in said.stdout
    assert re.search(r"bob came last, and has his 2 tasks after .* still wait or run", said.stdout)
    assert not list(tmp_path.glob("nblb-demo-*"))
    assert not list(runtime.iterdir()), "not even a lock"
    wait_until(lambda: not nblb_processes(), 20, "the end of all processes")


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--tasks", "0"]])
def test_without_workers_or_tasks_it_would_wait_for_ever(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", *arguments])
    assert end.value.code == 2
    assert "'0' is not a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_demo_leaves_no_cluster(number: signal.Signals, tmp_path: Path, runtime: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*WORDS, "--tasks", "5000"], stdout=subprocess.PIPE, text=True, env=environment) as demo:
        assert demo.stdout is not None
        assert "a cluster of 2 workers" in demo.stdout.readline()
        assert nblb_processes()
        demo.send_signal(number)
        demo.wait(60)
    wait_until(lambda: not nblb_processes(), 60, "the end of the demo's cluster")
    wait_until(lambda: not list(tmp_path.glob("nblb-demo-*")), 20, "its folder to be removed")
    assert not list(runtime.iterdir())
