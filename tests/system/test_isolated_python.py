"""nblb's processes start, whatever files, PYTHON* variables and startup files surround the notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nblb.system import isolated_python

ROOT = Path(__file__).parents[2]
CODE = """
import sys, os, json, logging, tempfile, random, string, select, token, types   # what a kernel has loaded long ago
sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
sys.path.append({root!r})
import nblb as lb, nblb.launch.cluster_processes, nblb.client.cluster, cloudpickle
sys.path.insert(0, "")
def good(x):
    print("out"); lb.progress(50, "half"); lb.emit([x]); return x + 1
def bad(): raise ValueError("wrong")
def finds():
    import wave, mine
    return wave.__file__, mine.__file__, os.environ.get("PYTHONPATH"), sys.flags.optimize
with lb.start(sys.argv[1], monitor=False):
    error = lb.task(bad).submit().exception(30)
    print(json.dumps([lb.task(good).map(range(100)).results(30), str(error), lb.task(finds).submit().result(30)]))
"""


def run(folder: Path, parameters_file: str, **variables: str) -> list[Any]:
    said = subprocess.run(
        [sys.executable, "-I", "-c", CODE.format(root=str(ROOT)), parameters_file],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    found: list[Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def shadow(folder: Path) -> None:
    """Files named like every module of the standard library, and like nblb's dependencies."""
    folder.mkdir(exist_ok=True)
    for name in {*sys.stdlib_module_names, *isolated_python.DEPENDENCIES, "nblb", "numpy", "usercustomize", "mine"}:
        (folder / f"{name}.py").write_text("print('a file of the user was loaded')\n", encoding="utf-8")


def test_files_beside_the_notebook_do_not_shadow_ours(tmp_path: Path, parameters_file: str) -> None:
    folder = tmp_path / "work"
    shadow(folder)
    results, error, (wave, mine, _, _) = run(folder, parameters_file)
    assert results == list(range(1, 101))
    assert "ValueError: wrong" in error
    assert (wave, mine) == (
        str(folder / "wave.py"),
        str(folder / "mine.py"),
    )  # tasks find what the kernel finds


def test_python_variables_reach_tasks_and_no_process_of_ours(tmp_path: Path, parameters_file: str) -> None:
    folder, other = tmp_path / "work", tmp_path / "other"
    shadow(other)
    folder.mkdir()
    (folder / "mine.py").touch()
    startup = tmp_path / "startup.py"
    startup.write_text("raise SystemExit('a startup file was run')\n", encoding="utf-8")
    results, _, (_, mine, path, optimize) = run(
        folder,
        parameters_file,
        PYTHONPATH=str(other),
        PYTHONHOME="/nowhere",
        PYTHONSTARTUP=str(startup),
        PYTHONWARNINGS="error",
        PYTHONINSPECT="1",
        PYTHONOPTIMIZE="2",
        PYTHONHASHSEED="nonsense",
        PYTHONUTF8="nonsense",
        PYTHONVERBOSE="1",
        PYTHONUSERBASE=str(other),
    )
    assert results == list(range(1, 101))
    assert (mine, path, optimize) == (str(folder / "mine.py"), str(other), 0)


def test_harmless_variables_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PYTHONHASHSEED": "7", "PYTHONUTF8": "1", "PYTHONPATH": "/x", "PYTHONINSPECT": "1"}.items():
        monkeypatch.setenv(name, value)
    kept = isolated_python.environment()
    assert {name for name in kept if name.startswith("PYTHON")} >= {"PYTHONHASHSEED", "PYTHONUTF8"}
    assert not {"PYTHONPATH", "PYTHONINSPECT"} & kept.keys()


def test_what_tasks_find_is_what_the_caller_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/usr/lib/python", "__editable__.x"])
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.delenv(isolated_python.TASKS, raising=False)
    told = json.loads(isolated_python.for_tasks())
    assert told["path"][0] == str(tmp_path)
    assert told["path"][2] == "__editable__.x"
    assert told["variables"]["PYTHONPATH"] == "/mine"
    monkeypatch.setenv(isolated_python.TASKS, "{}")  # a hub passes on what its starter said
    assert isolated_python.for_tasks() == "{}"


def test_a_file_that_this_program_has_loaded_in_place_of_a_module_is_named(tmp_path: Path) -> None:
    (tmp_path / "selectors.py").touch()  # a file in every build of Python
    code = f"import sys, selectors; sys.path.append({str(ROOT)!r}); import nblb; nblb.start"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    last = said.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"nblb.errors.NblbError: {tmp_path / 'selectors.py'} was loaded in place of the module 'selectors'"
    )
    assert len(last) < 300
