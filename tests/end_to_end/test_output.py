"""The whole output of tasks on a real cluster: it survives every death, is bounded, and is dropped with the task."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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


@lb.task
def alternates(pause_s: float) -> None:
    import sys
    import time

    for number in range(30):
        print("e" if number % 3 else "E", number, file=sys.stderr)
        print("o", number, end=" ")
        print("of 30")
        time.sleep(pause_s)


@pytest.mark.parametrize("pause_s", [0.0, 0.005])
def test_both_streams_stand_in_the_order_of_writing(cluster: Cluster, pause_s: float) -> None:
    alone, job = alternates.submit(pause_s), alternates.map([pause_s] * 4)
    expected = "".join(f"{'e' if n % 3 else 'E'} {n}\no {n} of 30\n" for n in range(30))
    alone.result(60), job.results(60)
    for future in (alone, *job[:]):
        assert future.output() == expected
    assert alone.snapshot().stdout_tail == expected.rstrip("\n")


@lb.task
def grows(megabytes: int) -> int:
    import time

    large = bytearray(megabytes * 1_000_000)
    time.sleep(0.02)
    if megabytes == 150:
        raise MemoryError("too much")
    return len(large)


def test_the_peak_of_memory_is_that_of_each_item(cluster: Cluster) -> None:
    job = grows.options(name="grows").map([1, 300, 150, 2], chunksize=1)
    job.wait(60)
    frame = job.dataframe()
    low, high = frame["peak_mb"][[0, 3]], frame["peak_mb"][1]
    assert high > 300
    assert (low < high - 200).all(), "not the most that the worker has ever had"
    assert frame["peak_mb"][2] > 150, "of a call that failed, too"
    assert job[1].peak_mb == pytest.approx(high, abs=0.1)
    assert lb.attach(job.job_id)[1].snapshot().peak_mb > 300
