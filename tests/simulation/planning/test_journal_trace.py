"""A cluster's own journal as a trace."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import nblb as lb
from nblb.errors import NblbError
from nblb.simulation.planning.journal_trace import read
from nblb.simulation.what_if import Load, what_if


def test_what_a_cluster_has_run_is_played_again(cluster: Any) -> None:
    @lb.task
    def nap(n: int) -> int:
        time.sleep(0.02)
        return n

    nap.map(range(12), job="naps").results(60)
    assert nap.submit(1).result(60) == 1
    folder = cluster.parameters.state_dir
    with pytest.raises(NblbError):  # the core uses it
        read(folder)
    cluster.stop()
    trace = read(folder)
    assert sum(job.items for job in trace.arrivals) == 13
    assert {job.user for job in trace.arrivals} == {cluster.user}
    assert all(0.015 < length < 5.0 for job in trace.arrivals for length in job.lengths)
    answer = what_if(Load(hubs=1, workers=2, trace=trace.arrivals), time.process_time)
    assert sum(user.tasks for user in answer.users) == 13


def test_a_folder_without_a_journal(tmp_path: Path) -> None:
    with pytest.raises(NblbError, match="no journal"):
        read(tmp_path)
