"""A task computes with the code and constants that a call in the notebook would use, whatever was edited."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nblb as lb


class Project:
    """A folder of source files that can be imported, and edited."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    def load(self, name: str) -> Any:
        importlib.invalidate_caches()
        return importlib.import_module(name)

    def cell(self, text: str) -> dict[str, Any]:
        """The names that a cell of a notebook has defined."""
        main: dict[str, Any] = {"__name__": "__main__", "lb": lb}
        exec(compile(textwrap.dedent(text), "<cell>", "exec", dont_inherit=True), main)
        return main


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))  # not the folder that a notebook would lie in
    before = set(sys.modules)
    yield Project(tmp_path / "src")
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def same(task: Any, *args: Any) -> Any:
    """What the task gives here; it gives the same by submit, by map and from the cache."""
    here = task(*args)
    assert task.submit(*args).result(60) == here
    assert task.map(*([arg] for arg in args or (0,))).results(60) == [here]
    assert task.options(cache=True).submit(*args).result(60) == here
    return here


def test_edits_reloads_and_set_constants(cluster: lb.Cluster, project: Project) -> None:
    project.write("rates.py", "RATE = 1\n")
    project.write("helper.py", "import rates\nRATE = 1\ndef f(x): return 'old', RATE * rates.RATE * x\n")
    helper, rates = project.load("helper"), project.load("rates")
    cell = project.cell("""
        import helper
        from helper import f
        @lb.task
        def through_module(x): return helper.f(x), helper.RATE
        @lb.task
        def through_name(x): return f(x)
    """)
    tasks = cell["through_module"], cell["through_name"]
    assert [same(task, 3) for task in tasks] == [(("old", 3), 1), ("old", 3)]
    helper.RATE = 7
    assert [same(task, 3) for task in tasks] == [(("old", 21), 7), ("old", 21)]
    rates.RATE = 2
    assert [same(task, 3) for task in tasks] == [(("old", 42), 7), ("old", 42)]
    project.write("helper.py", "import rates\nRATE = 10\ndef f(x): return 'new', g(x)\ndef g(x): return RATE * x\n")
    importlib.reload(helper)
    cell["f"] = helper.f
    exec("f = __import__('helper').f", cell)
    assert [same(task, 3) for task in tasks] == [(("new", 30), 10), ("new", 30)]
    helper.g = lambda x: "patched"
    assert [same(task, 3) for task in tasks] == [(("new", "patched"), 10), ("new", "patched")]


def test_packages_relative_imports_and_folders_without_init(cluster: lb.Cluster, project: Project) -> None:
    project.write("pkg/__init__.py", "from .models import Model\n")
    project.write(
        "pkg/models.py", "from . import base\nclass Model(base.Base):\n    def go(self): return self.twice(4)\n"
    )
    project.write("pkg/base.py", "K = 2\nclass Base:\n    def twice(self, x): return K * x\n")
    project.write("pkg/late.py", "def late(): return 'late'\n")
    project.write("pkg/deep/er.py", "def f():\n    from ..late import late\n    return late()\n")
    project.write("plain/mod.py", "def f(): return 'plain'\n")
    project.load("pkg.late"), project.load("pkg.deep.er"), project.load("plain.mod")
    cell = project.cell("""
        import pkg.deep.er, plain.mod
        from pkg import Model
        @lb.task
        def t(_=0): return Model().go(), pkg.Model().go(), pkg.deep.er.f(), plain.mod.f()
    """)
    assert same(cell["t"]) == (8, 8, "late", "plain")
    sys.modules["pkg.base"].K = 5  # type: ignore[attr-defined]
    assert same(cell["t"]) == (20, 20, "late", "plain")
    project.write("pkg/base.py", "class Base:\n    def twice(self, x): return 'edited'\n")
    for name in ("pkg.base", "pkg.models", "pkg"):
        importlib.reload(sys.modules[name])
    exec("from pkg import Model", cell)
    assert same(cell["t"]) == ("edited", "edited", "late", "plain")


def test_an_import_in_the_body_is_of_the_file_as_it_is(cluster: lb.Cluster, project: Project) -> None:
    project.write("inner.py", "V = 1\n")
    project.write(
        "bodied.py", "import inner\nCALLS = []\ndef f():\n    CALLS.append(0)\n    return inner.V, len(CALLS)\n"
    )
    folder = str(project.folder)

    @lb.task
    def t(_: int = 0) -> Any:
        import sys

        if folder not in sys.path:
            sys.path.insert(0, folder)
        import bodied  # type: ignore[import-not-found]

        return bodied.f()

    def in_all_workers() -> set[Any]:
        return {f.result(60) for f in [t.submit() for _ in range(30)]}

    assert {v for v, _ in in_all_workers()} == {1}
    assert max(calls for _, calls in in_all_workers()) > 5  # what a module keeps stays while the file does
    os.utime(project.folder / "bodied.py")
    assert max(calls for _, calls in in_all_workers()) > 10  # touched, not changed
    project.write("inner.py", "V = 2\n")  # as long as before, and perhaps in the same second
    assert {v for v, _ in in_all_workers()} == {2}
    assert t.map([0]).results(60)[0][0] == 2


def test_classes_of_a_cell_and_their_siblings(cluster: lb.Cluster, project: Project) -> None:
    cell = project.cell("""
        class Base:
            def name(self): return 'base', helper()
        class Child(Base):
            def go(self): return self.name(), Other().v
        class Other: v = 1
        def helper(): return 1
        @lb.task
        def t(_=0): return Child().go()
        @lb.task
        def gives(): return Child()
    """)
    assert same(cell["t"]) == (("base", 1), 1)
    given = cell["gives"].submit().result(60)
    assert type(given) is cell["Child"]
    exec("class Other: v = 2\ndef helper(): return 2", cell)
    assert cell["t"]() == (("base", 2), 2)  # what came back has not put older methods into the class
    assert same(cell["t"]) == (("base", 2), 2)
    assert given.go() == (("base", 2), 2)
    cell["Base"].name = lambda self: "changed"
    assert same(cell["t"]) == ("changed", 2)
    cell["Child"].name = lambda self: "added"
    assert same(cell["t"]) == ("added", 2)
    exec("class Child(Base):\n    def go(self): return 'defined again'", cell)
    assert same(cell["t"]) == "defined again"


def test_what_a_module_keeps_stays_in_its_worker(cluster: lb.Cluster, project: Project) -> None:
    project.write(
        "keeps.py",
        """
        loads = 0
        table = None
        def get():
            global table, loads
            if table is None:
                table, loads = {}, loads + 1
            table[len(table)] = 1
            return len(table)
        """,
    )
    project.load("keeps")
    cell = project.cell("""
        import keeps, os
        @lb.task
        def t(i): return os.getpid(), keeps.get(), keeps.loads, len(keeps.table)
    """)
    rows = [future.result(60) for future in [cell["t"].submit(i) for i in range(40)]]
    rows += cell["t"].map(range(40)).results(60)
    for pid in {pid for pid, *_ in rows}:
        ours = [row[1:] for row in rows if row[0] == pid]
        assert sorted(ours) == [(n, 1, n) for n in range(1, len(ours) + 1)]
    assert sys.modules["keeps"].loads == 0  # type: ignore[attr-defined]


def test_modules_are_found_by_their_name_while_their_functions_run(cluster: lb.Cluster, project: Project) -> None:
    project.write(
        "named.py",
        """
        from __future__ import annotations
        import dataclasses
        @dataclasses.dataclass
        class Point:
            x: Number
            def moved(self) -> Point: return Point(self.x + STEP)
        class Number(float): ...
        STEP = 1
        def double(x): return 2 * x
        """,
    )
    project.load("named")
    cell = project.cell("""
        import multiprocessing, pickle, sys, typing
        import named
        from named import Point
        @lb.task
        def t(point):
            again = pickle.loads(pickle.dumps(point))
            with multiprocessing.get_context("fork").Pool(1) as pool:
                doubled = pool.map(named.double, [1, 2])
            named.STEP = 5
            hints = typing.get_type_hints(Point)
            return type(again) is Point, hints["x"].__name__, doubled, point.moved(), sys.modules["named"] is named
        @lb.task
        def after():
            return "named" in sys.modules
    """)
    point = cell["Point"](1)
    assert cell["t"].submit(point).result(60) == (True, "Number", [2, 4], cell["Point"](6), True)
    assert not cell["after"].submit().result(60)
    assert point.moved() == cell["Point"](2)
    assert pickle.loads(pickle.dumps(point)) == point


GLOBALS = {
    "lock": ("import threading", "G = threading.Lock()", "with G: return 1"),
    "condition": ("import threading", "G = threading.Condition()", "with G: return 1"),
    "local": ("import threading", "G = threading.local()", "G.x = 1; return G.x"),
    "connection": ("import sqlite3", "G = sqlite3.connect(':memory:')", "return 1"),
    "variable": ("import contextvars", "G = contextvars.ContextVar('v', default=1)", "return G.get()"),
    "weak values": ("import weakref", "G = weakref.WeakValueDictionary()", "return 1 + len(G)"),
    "executor": ("import concurrent.futures as c", "G = c.ThreadPoolExecutor(2)", "return G.submit(int, 1).result()"),
    "dispatch": ("import functools", "@functools.singledispatch\ndef G(x): return 1", "return G(1)"),
    "lock in an object": (
        "import threading\nclass C:\n    def __init__(self): self.lock = threading.RLock()",
        "G = C()",
        "with G.lock: return 1",
    ),
    "lock in a class": ("import threading", "class G:\n    lock = threading.Lock()", "with G.lock: return 1"),
    "open file": ("", "G = open('/dev/null')", "return 1"),
    "thread": ("import threading", "G = threading.Thread(target=print)", "return 1"),
    "socket": ("import socket", "G = socket.socket()", "return 1"),
}


def test_globals_of_a_module_that_belong_to_a_process(cluster: lb.Cluster, project: Project) -> None:
    for what, (imported, made, used) in GLOBALS.items():
        name = "globals_" + what.replace(" ", "_")
        project.write(f"{name}.py", f"{imported}\n{made}\ndef f():\n    {used}\n")
        module: types.ModuleType = project.load(name)
        cell = project.cell(f"import {name} as m\nt = lb.task(lambda: m.f())")
        assert cell["t"].submit().result(60) == 1, what
        if what in ("connection", "open file", "socket"):
            module.G.close()


def test_what_is_required_and_cannot_travel_is_named(cluster: lb.Cluster, project: Project) -> None:
    project.write(
        "db.py", "G = (n for n in ())\nclass C:\n    held = G\ndef f(): return next(G)\ndef one(): return 1\n"
    )
    project.load("db")
    cell = project.cell("""
        import db
        bad, of_class, other = lb.task(lambda: db.f()), lb.task(lambda: db.C()), lb.task(lambda: db.one())
    """)
    with pytest.raises(lb.NotSerializable, match=r"db\.G cannot be pickled.*generator"):
        cell["bad"].submit()
    with pytest.raises(lb.NotSerializable, match=r"db\.C\.held cannot be pickled.*generator"):
        cell["of_class"].submit()
    assert cell["other"].submit().result(60) == 1


def test_members_looked_up_at_run_time(cluster: lb.Cluster, project: Project) -> None:
    project.write(
        "dyn.py",
        "import threading\nG, file = threading.Lock(), open('/dev/null')\ndef alpha(): return BETA\nBETA = 1\n",
    )
    module = project.load("dyn")
    cell = project.cell("import dyn\nt = lb.task(lambda name: getattr(dyn, name)())\nu = lb.task(lambda: dyn.nothing)")
    assert same(cell["t"], "alpha") == 1
    module.BETA = 2
    assert same(cell["t"], "alpha") == 2
    with pytest.raises(lb.TaskFailed, match="has no attribute 'nothing' here"):
        cell["u"].submit().result(60)
    module.file.close()


def test_preflight_shows_what_would_travel(cluster: lb.Cluster, project: Project) -> None:
    project.write("shown.py", "RATE = 2\nTABLE = bytes(200_000)\ndef f(x): return RATE * x\ndef g(): return TABLE\n")
    module = project.load("shown")
    cell = project.cell("""
        import msgspec, shown
        K = [1, 2, 3]
        def helper(x): return msgspec.json.encode(x)
        @lb.task
        def t(x):
            import not_installed_anywhere
            return helper(x), shown.f(x), K
    """)
    before = cell["t"].preflight([5] * 1000)
    rows = {item.name: item for item in before.items}
    assert (rows["t"].kind, rows["K"].kind, rows["helper"].kind, rows["shown"].kind) == (
        "function",
        "list",
        "function",
        "module",
    )
    assert rows["t"].nbytes > rows["shown"].nbytes > 100
    assert rows["shown"].nbytes < 10_000  # nobody names the table
    assert rows["argument 1"].how == "by value"
    assert rows["argument 1"].nbytes > 1000
    assert [item.kind for item in before.items if item.how == "the hub's own"] == ["package", "import in the body"]
    (hub,) = before.lacks
    assert any("not_installed_anywhere" in lack for lack in before.lacks[hub])
    assert any("will be sent once" in lack for lack in before.lacks[hub])
    with pytest.raises(lb.TaskFailed, match="not_installed_anywhere"):
        cell["t"].submit(1).result(60)
    after = cell["t"].preflight()
    assert not any("will be sent" in lack for lack in after.lacks[hub])
    module.RATE = 3
    changed = {item.name: item.hash for item in cell["t"].preflight().items}
    assert changed["shown"] != rows["shown"].hash
    assert changed["t"] != rows["t"].hash
    assert changed["helper"] == rows["helper"].hash
    assert "hub" in repr(before)
    assert rows["shown"].hash[:8] in repr(before)
