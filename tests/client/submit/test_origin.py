"""The notebook and cell of running code, found without importing IPython."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from nblb.client.submit import origin


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "_latest", (None, ""))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


def in_ipython(monkeypatch: pytest.MonkeyPatch, **shell: Any) -> types.SimpleNamespace:
    made = types.SimpleNamespace(**{"user_ns": {}, "execution_count": 3, **shell})
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    return made


def test_a_cell_has_the_number_of_its_prompt_in_every_ipython() -> None:
    """IPython 9.18 counts a cell before it runs."""
    source = "numbers.append(cell_number(shell))"
    shell = types.SimpleNamespace(execution_count=64, compile=types.SimpleNamespace(_filename_map={"<cell>": 63}))
    numbers: list[int] = []
    exec(compile(source, "<cell>", "exec"), {"numbers": numbers, "cell_number": origin.cell_number, "shell": shell})
    assert numbers == [63]
    assert origin.cell_number(shell) == 64, "outside of a cell"


def test_a_script_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert (origin.notebook(), origin.origin()) == ("", "")
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))  # being imported this moment
    assert origin.origin() == ""


def test_a_cell_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/anna/sweep.ipynb")
    parent = {"metadata": {"cellId": "c0ffee"}, "header": {"msg_id": "1"}}
    shell = in_ipython(monkeypatch, get_parent=lambda: parent)
    assert origin.origin() == "/home/anna/sweep.ipynb#c0ffee"
    shell.get_parent = lambda: {"metadata": {}, "header": {"msg_id": "2"}}
    assert origin.origin() == "/home/anna/sweep.ipynb#3"


def test_a_terminal_and_vs_code(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = in_ipython(monkeypatch)
    assert origin.origin() == "#3"
    shell.execution_count, shell.user_ns["__vsc_ipynb_file__"] = 4, "/x.ipynb"
    assert origin.origin() == "/x.ipynb#4"
