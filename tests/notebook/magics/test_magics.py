"""The magics in a real IPython, against a fake cluster; tests/browser and end_to_end use a real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nblb import parameters
from nblb.errors import (
    LoadBalancerUnreachable,
    ParametersError,
    TaskError,
    TaskFailed,
    TooManyQueuedTasks,
    UnknownTask,
)
from nblb.launch.cluster_processes import Started
from nblb.notebook import load_ipython_extension, unload_ipython_extension
from nblb.notebook.magics import magics
from tests.notebook.fakes import FakeCluster, FakeJob


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    monkeypatch.setattr(magics, "current", lambda parameters=None: fake)
    return fake


@pytest.fixture
def shell(cluster: FakeCluster) -> Iterator[InteractiveShell]:
    ipython = InteractiveShell.instance()
    load_ipython_extension(ipython)
    load_ipython_extension(ipython)  # twice is harmless
    yield ipython
    unload_ipython_extension(ipython)
    InteractiveShell.clear_instance()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster) -> list[Any]:
    calls: list[Any] = []

    def start(*given: Any, **named: Any) -> FakeCluster:
        calls.append((given, named))
        return cluster

    monkeypatch.setattr("nblb.launch.start", start)
    return calls


def test_start_is_one_call_and_its_value_is_the_cluster(shell: Any, started: list[Any], cluster: FakeCluster) -> None:
    assert shell.run_line_magic("lb_start", "my.json --workers 8 --no-monitor --name lab2") is cluster
    assert started == [(("my.json",), {"workers": 8, "monitor": False, "name": "lab2"})]
    shell.run_line_magic("lb_start", "")
    assert started[1] == ((None,), {"workers": None, "monitor": True, "name": None})


@pytest.mark.parametrize("error", [ParametersError("my.json: LB_IPP is unknown"), LoadBalancerUnreachable("no core")])
def test_what_nblb_raises_is_one_sentence(shell: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("nblb.launch.start", start)
    with pytest.raises(UsageError, match=str(error)) as caught:
        shell.run_line_magic("lb_start", "my.json")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("line", ["--workers many", "--nonsense", "a b"])
def test_a_wrong_line_is_one_sentence(shell: Any, started: list[Any], line: str) -> None:
    with pytest.raises(UsageError):
        shell.run_line_magic("lb_start", line)
    assert not started


@pytest.mark.parametrize("name", magics.names())
def test_every_magic_has_help_and_does_nothing_else_then(
    shell: Any, started: list[Any], cluster: FakeCluster, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.run_line_magic(name, "--help") is None
    assert f"%{name}" in capsys.readouterr().out
    assert not started
    assert not cluster.calls


@pytest.mark.parametrize("cell", ["%%lb --help", "%%lb -h\n", "\n%%lb --help\n\n", "%%lb --help\nx = 1"])
def test_help_of_the_cell_magic_needs_no_body(
    shell: Any, cluster: FakeCluster, cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_cell(cell)
    assert result.success, result.error_in_exec
    said = capsys.readouterr().out
    assert "%lb [--name NAME]" in said
    assert "Run the cell as a task" in said
    assert not cluster.calls


@pytest.mark.parametrize("cell", ["%%lb", "%%lb --name a\n\n"])
def test_a_cell_without_a_body_is_no_task(shell: Any, cluster: FakeCluster, cell: str) -> None:
    assert magics.with_body(cell.splitlines(keepends=True)) == cell.splitlines(keepends=True)


def test_stop_says_what_has_stopped(shell: Any, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("lb_stop", "")
    said = capsys.readouterr().out
    assert said == "lab-5799 has stopped: 1 hub, 4 workers. 123 unfinished tasks are kept for the next start.\n"
    assert cluster.stopped


def test_stop_counts_as_people_do(shell: Any, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.queued, cluster.running = 0, 1
    shell.run_line_magic("lb_stop", "  # enough for today")
    assert capsys.readouterr().out.endswith("4 workers. 1 unfinished task is kept for the next start.\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("parameters.json  # start", "parameters.json"),
        ("# only a comment", ""),
        ("a#1 --name 'x # y'  # it's that", "a#1 --name 'x # y'"),
        (r"my\ lab.json", r"my\ lab.json"),
    ],
)
def test_a_comment_may_follow(line: str, said: str) -> None:
    assert magics.without_comment(line) == said


def test_start_with_a_comment(shell: Any, started: list[Any]) -> None:
    shell.run_line_magic("lb_start", "my.json --workers 2  # start")
    assert started == [(("my.json",), {"workers": 2, "monitor": True, "name": None})]


def test_hub_is_one_call(shell: Any, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("lb_hub", "--workers 3")
    assert cluster.calls == [("add_hub", {"workers": 3, "host": None, "engine": None})]
    assert "hub-2.log" in capsys.readouterr().out


def test_a_hub_on_another_computer_is_one_call(shell: Any, cluster: FakeCluster) -> None:
    shell.run_line_magic("lb_hub", "--host anna@lab2 --workers 3 --python '/opt/my python' --make-venv")
    options = {"workers": 3, "host": "anna@lab2", "engine": None, "python": "/opt/my python", "make_venv": True}
    assert cluster.calls == [("add_hub", options)]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--host -oProxyCommand=x", "expected one argument"),
        ("--host 'anna lab2'", "the host is 'anna lab2'; it must be a name for ssh"),
        ("--engine ray", "there is no engine 'ray'; there are 'processes', 'dask'"),
        ("--hubs 2", "are for hubs in Slurm: add --slurm"),
        ("--slurm --time=1 --host lab2", "--host and --slurm exclude each other"),
        ("--python python3.12", "for a hub on another computer: add --host"),
        ("--make-venv", "for a hub on another computer: add --host"),
    ],
)
def test_a_hub_elsewhere_is_one_sentence(
    shell: Any, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, option: str, sentence: str
) -> None:
    monkeypatch.setattr(cluster, "add_hub", Started(parameters.load({})).add_hub)
    with pytest.raises(UsageError, match=sentence):
        shell.run_line_magic("lb_hub", option)


@pytest.mark.parametrize("error", [UnknownTask("no job 'swep'; did you mean sweep?"), TooManyQueuedTasks("too many")])
def test_a_wrong_name_is_one_sentence(
    shell: Any, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, error: TaskError
) -> None:
    def attach(_: str) -> None:
        raise error

    monkeypatch.setattr(cluster, "attach", attach)
    with pytest.raises(UsageError, match=str(error).replace("?", ".")):
        shell.run_line_magic("lb_attach", "swep")


def test_what_became_of_a_task_stays_an_error_of_its_own(
    shell: Any, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> None:
    def attach(_: str) -> None:
        raise TaskFailed("Traceback ...")

    monkeypatch.setattr(cluster, "attach", attach)
    with pytest.raises(TaskFailed):
        shell.run_line_magic("lb_attach", "sweep")


def test_status(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("lb_status", "")
    said = capsys.readouterr().out
    for words in ("lab-5799: ● up", "hub hub-1 on lab1", "user alice: 3 running, 120 queued, 17 done"):
        assert words in said


def test_status_of_a_core_that_is_dead(
    shell: Any, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    def status() -> None:
        raise LoadBalancerUnreachable("the core's pid 7 is gone")

    before = cluster.snapshot()
    monkeypatch.setattr(cluster, "status", status)
    monkeypatch.setattr(cluster, "snapshot", lambda: replace(before, connected=False, warning="core pid 7 is gone"))
    shell.run_line_magic("lb_status", "")  # no error: this is what was asked for
    said = capsys.readouterr().out
    for words in ("the core is away", "core pid 7 is gone", "workers: 4 (3 busy)", "queue: 120 waiting"):
        assert words in said
    assert "user alice" not in said


def test_scale_by_the_load(shell: Any, cluster: FakeCluster, capsys: Any) -> None:
    shell.run_line_magic("lb_scale", "--adapt 0 8")
    assert cluster.calls == [("adapt", (0, 8))]
    assert "adapts between 0 and 8 workers" in capsys.readouterr().out
    shell.run_line_magic("lb_scale", "--adapt off")
    assert "no longer follows the load" in capsys.readouterr().out
    for wrong in ("--adapt 3", "4 --adapt 0 8", ""):
        with pytest.raises(UsageError, match="MIN"):
            shell.run_line_magic("lb_scale", wrong)


def test_scale(shell: Any, cluster: FakeCluster) -> None:
    shell.run_line_magic("lb_scale", "6")
    assert cluster.calls == [("scale", 6)]
    with pytest.raises(UsageError, match="cannot be negative"):
        shell.run_line_magic("lb_scale", "-- -1")


def test_lb_dashboard_opens_the_control_panel(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from nblb.launch import dashboard

    monkeypatch.setattr(dashboard, "dashboard", lambda parameters: f"dashboard of {parameters}")
    assert shell.run_line_magic("lb_dashboard", "p.json") == "dashboard of p.json"
    assert shell.run_line_magic("lb_dashboard", "") == "dashboard of None"


def test_jobs_attach_and_monitor(shell: Any, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    [job] = shell.run_line_magic("lb_jobs", "")
    assert job["name"] == "sweep"
    assert isinstance(shell.run_line_magic("lb_attach", "sweep"), FakeJob)
    assert shell.run_line_magic("lb_monitor", "") is cluster
    assert cluster.monitor_url in capsys.readouterr().out


def test_unloading_takes_the_magics_back(shell: Any) -> None:
    unload_ipython_extension(shell)
    assert not [name for name in shell.magics_manager.magics["line"] if name.startswith("lb_")]


def test_a_terminal_shows_text(shell: Any) -> None:
    shell.run_cell("x = 1")
    data, _ = shell.display_formatter.format(FakeJob())
    assert data["text/plain"] == "<Job sweep>"
