"""Long work survives failures: retries that wait, and only of the errors that a user has named."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nblb as lb
from nblb import launch
from nblb.launch.presence import present
from nblb.system import pids
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


class Busy(OSError):
    """An error of this module, which the worker gets by value."""


def note(path: str) -> int:
    """Write the time into a file, and return how often that was done."""
    with open(path, "a") as file:
        file.write(f"{time.time()}\n")
    return Path(path).read_text().count("\n")


@lb.task
def busy_twice(path: str) -> int:
    runs = note(path)
    if runs < 3:
        raise Busy("try later")
    return runs


@lb.task
def wrong(path: str) -> None:
    note(path)
    raise ValueError("never right")


def kill_core(parameters: Parameters) -> None:
    [core] = present(parameters.runtime_dir, "core")
    os.kill(core.pid, signal.SIGKILL)
    assert pids.wait_gone([core.pid], 5) == []


@pytest.mark.parametrize("named", [OSError, (KeyError, Busy), "OSError"])
def test_a_call_is_retried_after_longer_and_longer_waits(cluster: Cluster, tmp_path: Path, named: object) -> None:
    path = tmp_path / "runs"
    future = busy_twice.options(retries=3, retry_wait=0.4, retry_on=named).submit(str(path))
    wait_until(lambda: "before its" in future.why(), 20, "the wait to show")
    assert "Busy: try later" in future.why()
    assert future.result(60) == 3
    first, second, third = map(float, path.read_text().split())
    assert second - first >= 0.4
    assert third - second >= 0.8


def test_only_named_errors_are_retried(cluster: Cluster, tmp_path: Path) -> None:
    future = wrong.options(retries=3, retry_on=(OSError, KeyError)).submit(str(tmp_path / "runs"))
    with pytest.raises(lb.TaskFailed, match="never right"):
        future.result(60)
    assert (tmp_path / "runs").read_text().count("\n") == 1


def test_a_wait_survives_a_restart_of_the_core_and_can_be_cancelled(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    path = tmp_path / "runs"
    future = busy_twice.options(retries=3, retry_wait=600).submit(str(path))
    wait_until(lambda: "before its 2nd attempt" in future.why(), 20, "the wait to show")
    kill_core(parameters)
    launch.start(parameters, monitor=False).close()
    wait_until(lambda: "before its 2nd attempt" in future.why(), 20, "the wait to go on")
    assert future.cancel()
    wait_until(future.cancelled, 20, "the cancel")
    assert path.read_text().count("\n") == 1
