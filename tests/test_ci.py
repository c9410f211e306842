"""The scripts of continuous integration: their interpreters and packages, and the report of missing ones."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "interpreters"


@pytest.fixture
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("interpreters", str(SCRIPT))
    spec = importlib.util.spec_from_loader("interpreters", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_oldest_python_is_the_one_that_is_promised(script: ModuleType) -> None:
    assert f'requires-python = ">={script.OLDEST}"' in (ROOT / "pyproject.toml").read_text()


def test_every_floor_is_installed(script: ModuleType) -> None:
    wanted = script.dependencies()
    assert "pyzmq>=25.1" in wanted
    assert all(requirement.count(">=") == 1 for requirement in wanted)


def test_the_chosen_tests_are_there(script: ModuleType) -> None:
    assert script.CORE
    assert [path for path in script.CORE if not (ROOT / path).exists()] == []


def test_an_interpreter_is_found(script: ModuleType) -> None:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert script.is_version(script.interpreter(here), here)


def test_one_that_cannot_be_had_is_named(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        script.Missing, match=r"no Python 2\.99 here: .* uv is not installed; name one with NBLB_PYTHON"
    ):
        script.interpreter("2.99")
    monkeypatch.setattr(script, "NEWEST", "2.99")
    assert script.attempt("newest", tmp_path / "none", []).startswith("not run: there is no Python 2.99")


def test_an_environment_that_does_not_exist_is_an_error() -> None:
    said = subprocess.run([sys.executable, str(SCRIPT), "olddest"], capture_output=True, text=True)
    assert said.returncode == 2
    assert "'olddest' is none of oldest, newest, floors" in said.stderr
