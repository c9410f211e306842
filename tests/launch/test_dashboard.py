"""The dashboard's process: it starts without a core, is found again, and ends with its starter or when told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import nblb as lb
from nblb.errors import NblbError
from nblb.launch import dashboard as module
from nblb.launch.dashboard import dashboard
from nblb.system.pids import is_alive
from tests.waiting import wait_until


def test_it_runs_before_anything_does(tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    shown = lb.dashboard(file)
    try:
        assert lb.dashboard is dashboard
        assert dashboard(file) is shown
        with urllib.request.urlopen(f"{shown.url}health", timeout=20) as answer:
            assert json.load(answer)["ok"]
        text = shown._repr_html_()
        assert "<iframe" in text
        assert shown.url in text
        assert len(text) < 4_000, "a saved notebook stays small"
        assert "server-proxy/servers-info" in text
        assert not file.exists()
    finally:
        shown.stop()
    assert not shown.running
    assert "ended" in repr(shown)


def test_what_it_wrote_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module.isolated_python, "command", lambda _module, _words: [sys.executable, "-c", "print('no')"]
    )
    with pytest.raises(NblbError, match="did not start; it wrote:\nno"):
        dashboard(tmp_path / "other.json")


def test_it_ends_with_the_process_that_has_started_it(tmp_path: Path) -> None:
    file = str(tmp_path / "p.json")
    code = f"import nblb, sys; print(nblb.dashboard({file!r})._process.pid, flush=True); sys.stdin.read()"
    starter = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    os.kill(starter.pid, signal.SIGKILL)
    starter.communicate()
    wait_until(lambda: not is_alive(pid), 20, "the end of the dashboard")
