"""The whole output of tasks on a real cluster: it survives every death, is bounded, and is dropped with the task."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nblb as lb
from nblb import launch
from nblb.system import pids
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

LINES = 20_000
KERNEL = """
import sys, time
import nblb as lb
lb.connect(sys.argv[1])

@lb.task
def talk(lines):
    import logging, subprocess, sys, warnings
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    logging.info("begun")
    warnings.warn("look out")
    subprocess.run(["echo", "from a child"])
    display("first picture")
    for number in range(lines):
        print("line", number)
    display("last picture")
    return lines

job = talk.map([1, %d], job="talks")
job.results()
print("done", flush=True)
time.sleep(60)
"""


def lines(first: int, last: int) -> str:
    return "".join(f"line {number}\n" for number in range(first, last))


def test_output_and_displays_outlive_core_hub_and_kernel(
    cluster: Cluster, parameters: Parameters, settings: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps(settings))
    environment = {**os.environ, "PYTHONPATH": str(Path(lb.__file__).parents[1])}
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL % LINES, str(file)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert kernel.stdout is not None
    with kernel.stdout:
        assert kernel.stdout.readline() == "done\n"
    status = cluster.status()
    victims = [kernel.pid, *(hub.pid for hub in cluster.hubs()), status.core.pid]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    kernel.wait()
    assert pids.wait_gone(victims[1:], 10) == []
    launch.start(parameters, monitor=False)
    job = lb.attach("talks")
    long = job[1]
    assert long.stdout == "from a child\n" + lines(0, LINES)
    assert "INFO:root:begun" in long.stderr
    assert "UserWarning: look out" in long.stderr
    assert long.output(tail=1) == f"line {LINES - 1}\n"
    assert "".join(long.read_output("stdout")) == long.stdout
    assert sorted((picture.item, str(picture)) for picture in job.displays) == [
        (item, repr(f"{which} picture")) for item in (0, 1) for which in ("first", "last")
    ]
    assert [str(picture) for picture in job[0].displays] == ["'first picture'", "'last picture'"]
    assert any(line.text == f"line {LINES - 1}" for line in job.snapshot().output)
    long._port.recall(long)
    assert long.snapshot().output_bytes == len(long.stdout) + len(long.stderr)
    folder = Path(str(parameters.state_dir)) / "output"
    assert [path for path in folder.rglob("*") if path.is_file()]
    job.forget()
    wait_until(lambda: not [path for path in folder.rglob("*") if path.is_file()], 10)


@lb.task
def flood(megabytes: int) -> None:
    for number in range(megabytes):
        print(f"{number:03}" * 349_525, flush=True)


def test_beyond_the_bound_head_and_tail_are_kept_and_the_rest_is_told(settings: dict[str, Any]) -> None:
    with lb.start({**settings, "LB_OUTPUT_MB": 2}, workers=1, monitor=False) as cluster:
        future = flood.submit(6)
        future.result(60)
        text = future.stdout
        assert text.startswith("000000")
        assert text.endswith("005005\n")
        assert " MB not kept …\n" in text
        assert len(text) <= 2 << 20
        assert future.snapshot().output_bytes > 6_000_000
        assert cluster.status().queued == 0


@lb.task
def warns(_number: int) -> None:
    import logging
    import warnings

    warnings.warn("look out", stacklevel=1)
    logging.getLogger("other").info("not heard, as in a notebook")
    logging.getLogger("lab").setLevel(logging.INFO)
    logging.getLogger("lab").info("heard")
    logging.getLogger("other").warning("heard too")


def test_each_task_warns_anew_and_records_have_their_level(settings: dict[str, Any]) -> None:
    with lb.start(settings, workers=1, monitor=False):
        for number in range(2):
            future = warns.submit(number)
            future.result(60)
            assert future.stderr.count("UserWarning: look out") == 1
            assert 'warnings.warn("look out", stacklevel=1)' in future.stderr
            assert "INFO:lab:heard\nWARNING:other:heard too\n" in future.stderr
            assert "not heard" not in future.stderr
