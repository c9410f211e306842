from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nblb.client.futures.task_future import TaskFuture
from nblb.notebook.magics import completion, magics
from tests.notebook.fakes import FakeCluster
from tests.notebook.kernels import kernel


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    fake = FakeCluster()
    fake.parameters.state_dir = tmp_path / "state"
    (tmp_path / "state" / "logs").mkdir(parents=True)
    for role in ("core", "hub-2", "hub"):
        (tmp_path / "state" / "logs" / f"{role}.log").write_text(f"{role} is up\n")
    monkeypatch.setattr(magics, "current", lambda: fake)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parameters.json").touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "lab.json").touch()
    (tmp_path / "paper.txt").touch()
    ipython = InteractiveShell.instance()
    ipython.user_ns["f_1"] = TaskFuture(None, "f" * 32, "fit")  # type: ignore[arg-type]
    magics.install(ipython)
    completion.install(ipython)
    yield ipython
    completion.remove(ipython)
    magics.remove(ipython)
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%lb_start --w", {"--workers"}),
        ("%lb_start --", {"--workers", "--name", "--no-monitor", "--help"}),
        ("%lb_start p", {"parameters.json", "pictures/"}),
        ("%lb_start pictures/", {"pictures/lab.json"}),
        ("%lb_attach s", {"sweep"}),
        ("%lb_hub --w", {"--workers"}),
        ("%lb_logs ", {"core", "hub", "hub-2", "f_1"}),
        ("%lb_logs --f", {"--follow"}),
        ("%lb_debug ", {"f_1", "ab12", "ab12.7"}),
        ("%%lb --p", {"--priority"}),
        ("%lb_stop --h", {"--help"}),
        ("%lb_inbox --", {"--everywhere", "--recover", "--help"}),
        ("%lb_debug --", {"--saved", "--post-mortem", "--help"}),
        ("%%lb --", {"--name", "--priority", "--timeout", "--bg", "--help"}),
    ],
)
def test_tab(shell: Any, line: str, offered: set[str]) -> None:
    _, found = shell.complete(line.rsplit(" ", maxsplit=1)[-1], line, len(line))
    assert offered <= set(found)
    assert "paper.txt" not in found or line.endswith(("--w", "--h"))


def test_tab_without_a_cluster_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise ConnectionError

    monkeypatch.setattr(magics, "current", nowhere)
    for line in ("%lb_attach x", "%lb_debug x", "%lb_logs x", "%lb_start /no/such/folder/x"):
        assert completion._offers(SimpleNamespace(user_ns={}), line, "x") == []


@pytest.mark.parametrize(
    ("line", "magic"),
    [
        ("%lb_start ", "lb_start"),
        ("  %lb_start --w", "lb_start"),
        ("lb_jobs --", "lb_jobs"),
        ("%%lb --b", "lb"),
        ("%lb_start", ""),
        ("lb = 3", ""),
        ("lb_startled = ", ""),
        ("%%timeit ", ""),
    ],
)
def test_which_lines_are_those_of_a_magic(line: str, magic: str) -> None:
    assert completion.magic_of(line) == magic


def test_names_of_python_are_offered_where_python_stands(shell: Any) -> None:
    shell.Completer.use_jedi = False  # `complete` leaves its names out
    _, after_magic = shell.complete("--b", "%%lb --b", 8)
    assert set(after_magic) == {"--bg"}
    _, elsewhere = shell.complete("prin", "prin", 4)
    assert "print" in elsewhere
    completion.remove(shell)
    assert [m for m in shell.Completer.custom_matchers if m.__module__ == completion.__name__] == []


def test_a_kernel_answers_what_jupyterlab_asks_for_each_magic() -> None:
    with kernel("%load_ext nblb") as (_, client):
        for name in [*(f"%{name}" for name in magics.names()), "%%lb"]:
            line = f"{name} --"
            offered = client.complete(line, len(line), reply=True, timeout=60)["content"]["matches"]
            wanted = {option for option in completion.options(name.lstrip("%")) if option.startswith("--")}
            assert {"--help"} <= wanted <= set(offered), name
        begin = client.complete("%lb_", 4, reply=True, timeout=60)["content"]["matches"]
        assert {f"%{name}" for name in magics.names()} <= set(begin)


def test_items_of_a_job_in_a_variable_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held(completion.Job):  # type: ignore[misc]
        def __init__(self, *bad: int) -> None:
            self._ledger = SimpleNamespace(total=9, of_state=lambda *_: list(bad))  # type: ignore[assignment]

    assert completion._items("bad", Held(3, 5)) == ["bad[3]", "bad[5]"]
    assert completion._items("good", Held()) == ["good[0]"]
    assert completion._items("x", 5) == []
