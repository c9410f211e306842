"""LB_ON_JOB_END: what a command and a web address get, and that a slow one stops nothing."""

from __future__ import annotations

import http.server
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb.broker import job_end_hook
from nblb.broker.job_end_hook import JobEndHook
from nblb.system import post_json
from tests.waiting import wait_until

JOB = {"job": "j1", "name": "sweep", "state": "done", "items": 3, "counts": {"DONE": 3}}


class Core:
    """A hook with a log, looked at until something is so."""

    def __init__(self, what: str, folder: Path) -> None:
        self.log: list[str] = []
        self.hook = JobEndHook(what, folder, lambda _level, text: self.log.append(text))

    def until(self, is_so: Any, what: str) -> None:
        def look() -> bool:
            self.hook.poll(time.monotonic())
            return bool(is_so())

        wait_until(look, 30, what)


@pytest.fixture
def posted() -> Iterator[tuple[str, list[Any]]]:
    found: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if self.path == "/yes" else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", found
    server.shutdown()
    server.server_close()


def test_a_command_gets_the_job(tmp_path: Path) -> None:
    core = Core('cat > job.json; echo "$NBLB_JOB $NBLB_JOB_NAME $NBLB_JOB_STATE" > names', tmp_path)
    core.hook.add([JOB])
    core.until(lambda: core.hook.deadline(0.0) is None or not core.hook._running, "its end")
    core.until((tmp_path / "names").exists, "the file")
    assert json.loads((tmp_path / "job.json").read_text()) == JOB
    assert (tmp_path / "names").read_text() == "j1 sweep done\n"
    assert core.log == []


def test_an_address_gets_a_post(tmp_path: Path, posted: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, found = posted
    core = Core(f"{url}/yes", tmp_path)
    core.hook.add([JOB])
    core.until(lambda: not core.hook._running and found, "the post")
    assert found == [JOB]
    assert core.log == []
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    core.hook.add([JOB])  # no proxy leads to this computer
    core.until(lambda: not core.hook._running and found == [JOB, JOB], "the post")
    refused = Core(f"{url}/no", tmp_path)
    refused.hook.add([JOB])
    refused.until(lambda: refused.log, "the failure")
    assert "FAILED with exit code 1 for job sweep" in refused.log[0]


def test_what_takes_too_long_is_killed_and_only_a_few_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_end_hook, "LIMIT_S", 0.5)
    monkeypatch.setattr(job_end_hook, "MOST_WAITING", 6)
    core = Core("sleep 60", tmp_path)
    core.hook.add([{**JOB, "name": f"n{n}"} for n in range(8)])
    assert [line for line in core.log if "TOO SLOW" in line] != []
    core.hook.poll(time.monotonic())
    assert len(core.hook._running) == job_end_hook.MOST_RUNNING
    core.until(lambda: sum("WAS KILLED" in line for line in core.log) == 6, "six ends")
    assert core.hook.deadline(0.0) is None


def test_an_address_that_is_none_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_json.sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{}")))
    assert post_json.main(["http://127.0.0.1:1/"]) == 1
    assert "LB_ON_JOB_END: http://127.0.0.1:1/" in capsys.readouterr().err


def test_close_leaves_nothing(tmp_path: Path) -> None:
    core = Core("sleep 60", tmp_path)
    core.hook.add([JOB])
    core.hook.poll(time.monotonic())
    (process, _, _) = core.hook._running[0]
    core.hook.close()
    assert process.poll() is not None


def test_no_hook(tmp_path: Path) -> None:
    core = Core("", tmp_path)
    core.hook.add([JOB])
    core.hook.poll(0.0)
    assert core.hook.deadline(0.0) is None


def test_a_core_calls_it_once_when_a_job_has_ended(settings: dict[str, Any], tmp_path: Path) -> None:
    import nblb as lb
    from nblb import launch

    settings["LB_ON_JOB_END"] = f"cat >> {tmp_path}/ends; echo >> {tmp_path}/ends"
    try:
        with lb.start(settings, monitor=False) as cluster:
            job = lb.task(abs, name="absolute").map([-1, 2], job="two")
            assert job.results() == [1, 2]
            wait_until(
                lambda: (tmp_path / "ends").exists() and (tmp_path / "ends").read_text().endswith("\n"), 20, "it"
            )
            (told,) = map(json.loads, (tmp_path / "ends").read_text().splitlines())
            assert (told["name"], told["state"], told["counts"], told["cluster"]) == (
                "two",
                "done",
                {"DONE": 2},
                cluster.name,
            )
    finally:
        launch.stop(settings)
