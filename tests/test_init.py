"""The package itself: its public names, and the cost of importing it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nblb

HEAVY = ("zmq", "panel", "bokeh", "ipywidgets", "anywidget", "cloudpickle", "msgspec", "psutil", "IPython", "asyncio")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    assert run(f"import sys, nblb; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_import_is_quick() -> None:
    code = "import time; t = time.process_time(); import nblb; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(5)) < 0.03  # of the processor: others may keep it busy


@pytest.mark.parametrize("name", nblb.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(nblb, name) is not None
    assert name in dir(nblb)


def test_an_unknown_name_is_an_AttributeError() -> None:
    with pytest.raises(AttributeError, match="module 'nblb' has no attribute 'strat'"):
        nblb.strat  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean attach\\?"):
        nblb.atach  # noqa: B018


def test_star_import() -> None:
    assert (
        run("from nblb import *; print(task.__module__, __version__)")
        == f"nblb.client.task_decorator {nblb.__version__}"
    )


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(nblb.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.asname: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"nblb.{home}" for name, home in nblb._HOMES.items()}


def test_a_submodule_never_hides_a_public_name() -> None:
    modules = {path.stem for path in Path(nblb.__file__).parent.iterdir()}
    assert not modules & set(nblb.__all__)


def test_type_checkers_are_told_that_it_is_typed() -> None:
    assert Path(nblb.__file__).with_name("py.typed").exists()  # "Typing :: Typed" in pyproject.toml
