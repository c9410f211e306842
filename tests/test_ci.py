"""The scripts of continuous integration: their interpreters and packages, and the report of missing ones."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
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


TEST = """#!/bin/sh
echo "$@" >>calls
[ "$1" != --last-failed ] || exit $(cat second)
mkdir -p .pytest_cache/v/cache
cd .pytest_cache/v/cache
printf '{\\n  "tests/test_a.py::test_b[c-1]": true,\\n  "tests/test_d.py::test_e": true\\n}' >lastfailed
exit 1
"""


@pytest.mark.parametrize(("second", "said"), [(0, "Flaky: these failed beside others and passed alone:"), (1, "")])
def test_what_failed_once_is_named(tmp_path: Path, second: int, said: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "test").write_text(TEST)
    (tmp_path / "test").chmod(0o755)
    (tmp_path / "second").write_text(str(second))
    done = subprocess.run([tmp_path / ".ci" / "run", "tests"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == second
    again = "--last-failed --last-failed-no-failures none -p no:randomly"
    assert (tmp_path / "calls").read_text().splitlines() == ["tests", again]
    names = "    tests/test_a.py::test_b[c-1]\n    tests/test_d.py::test_e\n"
    assert f"These failed and run again, alone:\n{names}" in done.stdout
    assert done.stdout.endswith(f"{said}\n{names}" if said else names)


def test_what_failed_once_on_another_python_is_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "environment", lambda *_args, **_named: sys.executable)
    test = tmp_path / "test_once.py"
    test.write_text(
        "from pathlib import Path\n"
        "def test_once():\n"
        "    mark = Path(__file__).with_name('mark')\n"
        "    there = mark.exists()\n"
        "    mark.touch()\n"
        "    assert there\n"
    )
    monkeypatch.setattr(script, "CORE", [str(test), f"--rootdir={tmp_path}"])
    said = script.attempt("newest", tmp_path / "environment", [])
    assert said == "passed; flaky, these passed at the second try: test_once.py::test_once"
    assert script.attempt("newest", tmp_path / "environment", []) == "passed"
