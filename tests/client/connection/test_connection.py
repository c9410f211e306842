"""The I/O thread of a connection: batches, the end of the program, a core that cannot be found."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import nblb as lb
from nblb import parameters
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.connection.connection import Connection
from nblb.client.connection.locate import hello
from nblb.errors import LoadBalancerUnreachable
from nblb.protocol.messages import Ask, Refused, SubmitTask, TaskAccepted
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@task_decorator.task
def same(x: int) -> int:
    return x


def test_close_flushes_what_was_submitted(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    for n in range(3000):
        same.submit(n)
    cluster._connection.close()
    assert len(core.said(SubmitTask)) == 3000
    wait_until(lambda: not cluster._connection._thread.is_alive())
    cluster._connection.close()
    with pytest.raises(LoadBalancerUnreachable, match="closed"):
        cluster.status()


def test_close_goes_on_for_as_long_as_the_core_takes_what_is_left(cluster: Cluster, core: FakeCore) -> None:
    core.deaf = True  # it will acknowledge them, one now and one then
    futures = [same.submit(n) for n in range(40)]
    wait_until(lambda: len(core.said(SubmitTask)) == 40)

    def acknowledge() -> None:
        for future in futures:
            time.sleep(0.06)
            core.tell(TaskAccepted(task=future.task_id))

    slow = threading.Thread(target=acknowledge)
    slow.start()
    cluster._connection.close(1.5)
    slow.join()
    assert cluster._connection._io_thread.session.unaccepted == {}
    assert not cluster._connection._thread.is_alive()


def test_who_closes_before_the_core_has_acknowledged_hears_of_what_may_be_lost(
    cluster: Cluster, core: FakeCore, caplog: pytest.LogCaptureFixture
) -> None:
    core.hold = True
    kept = same.submit(1)
    wait_until(lambda: len(core.specs) == 1 and not cluster._connection._io_thread.session.unaccepted)
    core.deaf = True
    lost, many = same.submit(2), same.map(range(7))
    item = many[3]
    cluster._connection.close(0.05)
    assert "8 calls may be lost" in caplog.text
    with pytest.raises(LoadBalancerUnreachable, match="the task continues while the core runs"):
        kept.result()
    for future in (lost, item):
        with pytest.raises(LoadBalancerUnreachable, match="submit it again"):
            future.result()


def test_who_waits_is_told_of_the_close(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future, job = same.submit(1), same.map([1, 2])
    item = job[1]
    wait_until(lambda: len(core.specs) == 2)
    closing = threading.Timer(0.1, cluster._connection.close)
    closing.start()
    for wait in (future.result, job.results, item.result):
        with pytest.raises(LoadBalancerUnreachable, match="closed"):
            wait(20)
    closing.join()
    with pytest.raises(LoadBalancerUnreachable, match="closed"):
        job.wait()
    for submit in (same.submit, same.map):
        with pytest.raises(LoadBalancerUnreachable, match="closed"):
            submit([1])
    assert job.counts() == {"QUEUED": 2}, "what is not known is not made up"


def test_close_is_bounded_when_the_core_is_away(cluster: Cluster, core: FakeCore) -> None:
    core.hang_up()
    same.submit(1)
    began = time.monotonic()
    cluster._connection.close(0.2)
    assert time.monotonic() - began < 30
    assert not cluster._connection._thread.is_alive()


def test_a_script_that_submits_and_ends_loses_nothing(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    code = f"""
import sys; sys.path.insert(0, {root!r})
from nblb import parameters
from nblb.client import cluster
from nblb.client.connection.connection import Connection
from nblb.client.task_decorator import task
from nblb.client.connection.locate import hello
from nblb.protocol.messages import SubmitTask
from tests.client.fake_core import FakeCore
core = FakeCore(hold=True)
cluster.find_core = lambda parameters: "fake://core"
cluster.Cluster._connect = lambda self: Connection(lambda: "fake://core", hello("me"), core.dial)
import atexit
atexit.unregister(cluster.close_all)
atexit.register(lambda: print(len(core.said(SubmitTask))))
atexit.register(cluster.close_all)
cluster.Cluster(parameters.load())
for n in range(2000):
    task(abs).submit(n)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.stdout.strip() == "2000", done.stderr


def test_many_threads_submit_at_once(cluster: Cluster) -> None:
    totals: list[int] = []

    def some() -> None:
        totals.append(sum(lb.gather(*[same.submit(n) for n in range(300)])))

    threads = [threading.Thread(target=some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert totals == [sum(range(300))] * 8


def test_a_failing_callback_hurts_nobody(cluster: Cluster, core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    core.hold = True
    future = same.map([1, 2])
    future._port.add_listener(future, lambda: 1 / 0)
    core.hold = False
    assert same.submit(3).result(60) == 3
    core.run()
    assert future.results(60) == [1, 2]
    wait_until(lambda: "a listener has failed" in caplog.text)


def test_no_core_is_said_with_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(tmp_path))
    before = set(threading.enumerate())
    chosen = parameters.load({"LB_NAME": "nowhere", "LB_STATE_DIR": str(tmp_path / "state")})
    with pytest.raises(LoadBalancerUnreachable, match=r"no core 'nowhere' runs here.*core.json"):
        Cluster(chosen)
    chosen.runtime_dir.mkdir(parents=True)
    address = f"ipc://{tmp_path}/nobody"
    chosen.connection_file.write_text(f'{{"pid": 0, "host": "elsewhere", "addresses": {{"clients": "{address}"}}}}')
    monkeypatch.setattr("nblb.client.cluster.LEAST_PATIENCE_S", 0.1)
    began = time.monotonic()
    with pytest.raises(LoadBalancerUnreachable, match=address):
        Cluster(parameters.load({**chosen.as_dict(), "SOCKET_TIMEOUT": 50}))
    assert time.monotonic() - began < 60
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "nblb-client"]


def test_a_core_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(tmp_path))
    chosen = parameters.load({"LB_NAME": "gone", "LB_STATE_DIR": str(tmp_path / "state")})
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(60)
    chosen.runtime_dir.mkdir(parents=True)
    chosen.connection_file.write_text(
        f'{{"pid": {child.pid}, "host": "{socket.gethostname()}", "addresses": {{"clients": "ipc:///x"}}}}'
    )
    with pytest.raises(LoadBalancerUnreachable, match=f"pid {child.pid}.*is gone"):
        Cluster(chosen)


def test_a_refusal_is_raised_where_one_connects(core: FakeCore) -> None:
    core._on[type(hello())] = lambda line, message: line.tell(Refused(reason="not with this key"))
    connection = Connection(lambda: "fake://core", hello(), core.dial)
    try:
        with pytest.raises(lb.NotAllowed, match="not with this key"):
            connection.wait_connected(10)
    finally:
        connection.close(0.0)


def test_a_question_that_nobody_answers(cluster: Cluster, core: FakeCore) -> None:
    core.deaf = True
    with pytest.raises(LoadBalancerUnreachable, match="does not answer within"):
        cluster.connection.ask("status", timeout_s=0.05)
    pending = cluster.connection.question(Ask(request=cluster.connection.request(), topic="status"))
    cluster._connection.close(0.0)
    with pytest.raises(LoadBalancerUnreachable, match="closed before"):
        cluster.connection.wait_for(pending)


def test_the_core_may_return_at_another_address(core: FakeCore) -> None:
    addresses = ["fake://one"]
    connection = Connection(lambda: addresses[0], hello(), core.dial)
    try:
        assert connection.wait_connected(10)
        core.hang_up()
        addresses[0] = core.address = "fake://two"
        core.come_back()
        wait_until(lambda: connection.address == "fake://two" and connection.connected)
    finally:
        connection.close(0.0)
