from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nblb.notebook import completion, magics
from tests.notebook.fakes import FakeCluster


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(magics, "current", FakeCluster)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parameters.json").touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "lab.json").touch()
    (tmp_path / "paper.txt").touch()
    ipython = InteractiveShell.instance()
    magics.install(ipython)
    completion.install(ipython)
    yield ipython
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
        ("%lb_stop --h", {"--help"}),
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
    assert completion.job_names() == []
    assert completion.parameter_files("/no/such/folder/x") == []
