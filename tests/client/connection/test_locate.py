"""Locating a core by its connection file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nblb.client.connection.locate import find_core
from nblb.errors import LoadBalancerUnreachable
from nblb.parameters import Parameters, load
from tests.waiting import wait_until


def _written(folder: Path, monkeypatch: pytest.MonkeyPatch, pid: int) -> Parameters:
    """The settings of a core whose file says this."""
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(folder))
    parameters = load({"LB_NAME": "found", "LB_STATE_DIR": str(folder / "state")})
    parameters.connection_file.parent.mkdir(parents=True, exist_ok=True)
    about = {"pid": pid, "host": socket.gethostname(), "addresses": {"clients": "ipc:///there"}}
    parameters.connection_file.write_text(json.dumps(about))
    return parameters


def test_a_living_core_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_core(_written(tmp_path, monkeypatch, os.getpid())) == "ipc:///there"


def test_a_core_that_has_ended_and_was_not_waited_for_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    stat = Path(f"/proc/{child.pid}/stat")
    try:
        if stat.exists():
            wait_until(lambda: ") Z" in stat.read_text(), 10, "the child to end")
            with pytest.raises(LoadBalancerUnreachable, match=rf"pid {child.pid}, ipc:///there\) is gone"):
                find_core(_written(tmp_path, monkeypatch, child.pid))
    finally:
        child.wait()
    with pytest.raises(LoadBalancerUnreachable, match="is gone"):
        find_core(_written(tmp_path, monkeypatch, child.pid))
