"""A kernel restart in the middle of a job: a real kernel, a real cluster, side effects counted on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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


def test_nothing_is_computed_twice_and_all_results_come(cluster: Cluster, parameters_file: str, tmp_path: Path) -> None:
    file = tmp_path / "noted"
    file.touch()

    def noted() -> list[str]:
        return file.read_text().split()

    with kernel() as (manager, client):
        run(client, SWEEP.format(parameters=parameters_file, file=str(file)))
        wait_until(lambda: len(noted()) >= 102, 30, "half of the job, and both workers held up")
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=100)
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
    reply = client.execute(cell, reply=True, timeout=100)["content"]
    assert reply["status"] == "ok", reply


FAIL = """import nblb as lb, numpy as np
cluster = lb.connect({parameters!r})
@lb.task
def fit(scale):
    data = np.arange(12.0).reshape(3, 4) * scale
    large = np.zeros((1000, 1000))
    return check(data, password="hun" + "ter2") + large.sum()
def check(data, password):
    if data.max() > 100:
        raise ValueError("too large")
    return data.sum()
job = fit.map([1, 2, 50], job="fits")
job.wait()"""
TYPED = (
    "p data.shape, data.max()",
    "p password",
    "up",
    "p scale + 1",
    "p large",
    "p large.shape",
    "p np.sum(data)",
    "q",
)


def test_a_failure_is_debugged_in_a_later_kernel_with_its_values(cluster: Cluster, parameters_file: str) -> None:
    with kernel() as (manager, client):
        run(client, FAIL.format(parameters=parameters_file))
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=100)
        run(client, f"import numpy as np, nblb as lb\n%load_ext nblb\ncluster = lb.connect({parameters_file!r})")
        said, typed = [], iter(TYPED)

        def hear(message: Any) -> None:
            said.append(message["content"].get("text", ""))

        client.execute_interactive(
            "%lb_debug fits[2] --post-mortem",
            timeout=60,
            output_hook=hear,
            stdin_hook=lambda _: client.input(next(typed)),
        )
    text = re.sub(r"\x1b\[[\d;]*m", "", "".join(said))
    for words in ("ValueError: too large", "((3, 4)", "550.0", "‹not shown", "51\n", "array([[0., 0., 0.", "3300.0"):
        assert words in text, text
    assert "has no shape here: only its text was saved" in text
    assert "hunter2" not in text
    assert "return check(data, password=" in text  # the line of the frame above
    assert next(typed, None) is None
