from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from nblb.errors import ParametersError
from nblb.notebook.kernel import environment
from nblb.notebook.kernel.environment import Mode


@pytest.fixture
def in_kernel(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    shell = SimpleNamespace(kernel=object(), user_ns={})
    monkeypatch.setattr(environment, "shell", lambda: shell)
    for name in ("NBLB_UI", *environment.APART):
        monkeypatch.delenv(name, raising=False)
    return shell


def test_the_best_picture_that_works_here(in_kernel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.mode() is Mode.LIVE
    in_kernel.user_ns["__vsc_ipynb_file__"] = "a.ipynb"
    assert environment.mode() is Mode.VIEW
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    assert environment.mode() is Mode.HTML
    del in_kernel.kernel
    assert environment.mode() is Mode.OFF


@pytest.mark.parametrize("name", ["COLAB_RELEASE_TAG", "VSCODE_PID", "VSCODE_CWD"])
@pytest.mark.usefixtures("in_kernel")
def test_colab_and_vs_code_are_known_by_their_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert environment.mode() is Mode.VIEW
    monkeypatch.setenv("NBLB_UI", "html")
    assert environment.mode() is Mode.HTML


@pytest.mark.usefixtures("in_kernel")
def test_colab_is_known_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    assert environment.mode() is Mode.VIEW


@pytest.mark.parametrize(
    ("wish", "mode"), [("widget", Mode.LIVE), ("html", Mode.HTML), ("Text", Mode.TEXT), ("off", Mode.OFF)]
)
def test_nblb_ui_decides(in_kernel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, wish: str, mode: Mode) -> None:
    monkeypatch.setenv("NBLB_UI", wish)
    assert environment.mode() is mode


def test_an_unknown_wish_is_refused(in_kernel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLB_UI", "widgets")
    with pytest.raises(ParametersError, match="'widgets'; it can be widget, html, text, off"):
        environment.mode()
