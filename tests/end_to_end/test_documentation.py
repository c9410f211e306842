"""The example of pyLoadBalancer's documentation, unchanged, and its other names."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nblb import Client, HealthCheck, LoadBalancer, WorkerHub, launch, startAll, startWorkerHub
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nblb.parameters import Parameters

CORE = """
from nblb import startAll
startAll('parameters.json')
"""

HUB = """
from nblb import WorkerHub
WKHub = WorkerHub('parameters.json')

def helloFunction(**kwargs):
    print('WORKER GOT TASK', kwargs)
    result = 'Hello %s %s !' % (kwargs.get('task').get('firstName'), kwargs.get('task').get('lastName'))
    #do something with task
    return result

WKHub.addTask('HELLO', helloFunction)
WKHub.startWKHUB()
"""

CLIENT = """
import time
from nblb import Client
CL = Client('parameters.json')
task = {'firstName': 'John', 'lastName': 'Doe'}
taskid = CL.sendTask('HELLO', task, userid='username').get('taskid')

for _ in range(300):
    taskinfo = CL.getTask(taskid)
    progress = taskinfo.get('progress')
    result = taskinfo.get('result')
    if progress == 100:
        break
    time.sleep(0.1)
print(taskinfo)
"""


def test_the_first_warning_of_startAll_is_the_documented_one(folder: Path) -> None:
    assert "HC - WARNING : LB HAS NO WORKERS" in run(folder, "core.py", CORE)


def test_the_HELLO_example(folder: Path) -> None:
    run(folder, "core.py", CORE)
    with script(folder, "hub.py", HUB):
        said = run(folder, "seed_client.py", CLIENT)
    assert said.splitlines()[-1] == "{'progress': 100, 'result': 'Hello John Doe !'}"
    log = next(folder.rglob("core.log")).read_text()
    assert "LB - ADDING WORKER (worker_" in log


def test_startAll_and_startWorkerHub_give_handles(parameters_file: str, stopped: None) -> None:
    base = 10
    balancer, health, monitor = startAll(parameters_file)
    hub = startWorkerHub(parameters_file, {"ADD": lambda task, **_: task + base, "PID": lambda **_: os.getpid()})
    client = Client(parameters_file)
    ids = [client.sendTask("ADD", number, userid="u").get("taskid") for number in range(20)]
    assert done(client, ids) == [base + number for number in range(20)]
    assert done(client, [client.sendTask("PID", {}).get("taskid")]) != [os.getpid()]
    for process in (hub, monitor, health, balancer):
        assert process.is_alive()
        process.terminate()
        process.join(15)
        assert not process.is_alive()


def test_startAll_twice_and_its_start_functions(parameters_file: str, stopped: None) -> None:
    first = startAll(parameters_file)
    processes, starters = startAll(parameters_file, returnStartFct=True)
    assert [process.pid for process in processes] == [process.pid for process in first]
    processes[0].terminate()
    processes[0].join(10)
    assert starters[0]().is_alive()
    hub, start_hub = startWorkerHub(parameters_file, {}, True)
    hub.terminate()
    hub.join(10)
    assert start_hub().is_alive()


def test_a_task_that_fails_and_one_that_is_cancelled(parameters_file: str, stopped: None) -> None:
    startAll(parameters_file)
    startWorkerHub(parameters_file, {"BAD": lambda **_: 1 / 0, "SLEEP": nap})
    client = Client(parameters_file)
    bad = client.sendTask("BAD", {}).get("taskid")
    said = wait_until(lambda: (a := client.getTask(bad)).get("error") and a, 15, "the failure")
    assert (said["progress"], said["result"]) == (None, None)
    assert "ZeroDivisionError" in said["error"]
    long = client.sendTask("SLEEP", {"seconds": 60}).get("taskid")
    wait_until(lambda: client.getTask(long)["progress"] == 50, 15, "it to run")
    assert client.cancelTask(long) == {"deleted": True, "from": "pending"}
    assert client.getTask(long)["progress"] == "cancelled"
    assert client.getTask("nobody-knows")["progress"] is None
    assert client.cancelTask("nobody-knows") == {"deleted": False, "from": None}
    quick = client.sendTask("SLEEP", {"seconds": 0}).get("taskid")
    assert done(client, [quick]) == ["slept"]


def test_the_classes_run_in_threads_of_one_program(parameters: Parameters) -> None:
    import threading

    balancer, hub, check = LoadBalancer(parameters), WorkerHub(parameters), HealthCheck(parameters)
    hub.addTask("TWICE", lambda task, arguments: task * arguments["by"], by=2)
    hub.addTask("GONE", len)
    hub.rmvTask("GONE")
    threads = [threading.Thread(target=run) for run in (balancer.startLB, hub.startWKHUB, check.startHC)]
    try:
        threads[0].start()
        wait_until(parameters.connection_file.exists, 10, "the core")
        threads[1].start()
        threads[2].start()
        client = Client(parameters)
        assert done(client, [client.sendTask("TWICE", 21, userid="u", priority=100).get("taskid")]) == [42]
        wait_until(lambda: check.core_answers and check.workers, 10, "a health check")
    finally:
        check.stop()
        hub.stop()
        threads[1].join(10) if threads[1].ident else None
        balancer.stop()
        for thread in threads:
            thread.join(10) if thread.ident else None
    assert not any(thread.is_alive() for thread in threads)


# ── means ───────────────────────────────────────────────────────────────────────────────────────────────────


def nap(**kwargs: Any) -> str:
    import time

    import nblb

    nblb.progress(50)
    time.sleep(kwargs["task"]["seconds"])
    return "slept"


def done(client: Client, ids: list[Any]) -> list[Any]:
    def all_done() -> dict[str, Any] | None:
        answers: dict[str, Any] = client.getTask(ids)
        return answers if all(answer["progress"] == 100 for answer in answers.values()) else None

    answers = wait_until(all_done, 20, "the tasks")
    return [answers[task]["result"] for task in ids]


@pytest.fixture
def stopped(parameters_file: str) -> Iterator[None]:
    yield
    launch.stop(parameters_file)


@pytest.fixture
def folder(parameters_file: str, stopped: None) -> Path:
    return Path(parameters_file).parent


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def run(folder: Path, name: str, code: str) -> str:
    (folder / name).write_text(code)
    ended = subprocess.run(
        [sys.executable, name], cwd=folder, env=_environment(), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextlib.contextmanager
def script(folder: Path, name: str, code: str) -> Iterator[None]:
    """A script that blocks, until Ctrl-C."""
    (folder / name).write_text(code)
    with (folder / f"{name}.out").open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, name], cwd=folder, env=_environment(), stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
