"""A kernel that is restarted in the middle of a job: a real kernel, a real cluster, side effects counted on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nblb.client.cluster import Cluster
from tests.notebook.kernels import SETUP, evaluated, kernel
from tests.waiting import wait_until

SWEEP = """import nblb as lb
cluster = lb.connect({parameters!r})
@lb.task
def note(x):
    import os, time
    with open({file!r}, "a") as f:
        f.write(f"{{x}}\\n")
    while x >= 100 and not os.path.exists({file!r} + ".go"):
        time.sleep(0.02)
    return x * x
job = note.map(range(200), job="sweep")"""
AGAIN = "import nblb as lb\ncluster = lb.connect({parameters!r})\njob = lb.attach('sweep')"


@pytest.mark.timeout(120)
def test_nothing_is_computed_twice_and_all_results_come(cluster: Cluster, parameters_file: str, tmp_path: Path) -> None:
    file = tmp_path / "noted"
    file.touch()

    def noted() -> list[str]:
        return file.read_text().split()

    with kernel() as (manager, client):
        run(client, SWEEP.format(parameters=parameters_file, file=str(file)))
        wait_until(lambda: len(noted()) >= 102, 30, "half of the job, and both workers held up")
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=30)
        assert len(noted()) == 102
        run(client, SETUP)
        run(client, AGAIN.format(parameters=parameters_file))
        Path(f"{file}.go").touch()
        assert evaluated(client, "job.results() == [x * x for x in range(200)]", timeout=60) == "True"
        # The same cell again takes the job up as well.
        run(client, SWEEP.format(parameters=parameters_file, file=str(file)))
        assert evaluated(client, "sum(job.results())") == str(sum(x * x for x in range(200)))
    assert sorted(map(int, noted())) == list(range(200))


def run(client: Any, cell: str) -> None:
    reply = client.execute(cell, reply=True, timeout=30)["content"]
    assert reply["status"] == "ok", reply
