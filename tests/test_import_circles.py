"""No module imports itself by way of others: the graph of all imports that run, those inside functions included.

import-linter (test_architecture.py) checks the floors, where a module may not import one above. This test also finds
circles within a package, and those that an import inside a function hides. Imports under TYPE_CHECKING do not run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Imports by name, of a package above: (module, imported module) -> why it may be.
BY_NAME = {
    ("nblb.client.front_end", "nblb.notebook"): "a notebook's cards are loaded where IPython runs",
    ("nblb.payload.nested_task", "nblb.client.task_decorator"): "a worker loads the client if a task submits tasks",
}


def modules(root: Path) -> dict[str, ast.Module]:
    found = {}
    for path in sorted((root / "nblb").rglob("*.py")):
        if "__pycache__" not in path.parts:
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this one, without those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from running(other)
        else:
            yield child
            yield from running(child)


def imports(name: str, tree: ast.Module, known: dict[str, ast.Module]) -> Iterator[tuple[str, int]]:
    """(imported module of nblb, line) of each import in a module that runs at some time."""
    texts = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in running(tree):
        wanted: list[str] = []
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}:{node.lineno} is a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            wanted = [each if each in known else str(node.module) for each in whole]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            argument = node.args[0]
            value = argument.value if isinstance(argument, ast.Constant) else texts.get(ast.unparse(argument))
            wanted = [str(value)]
        for each in wanted:
            if each in known and each != name and (name, each) not in BY_NAME:
                yield each, getattr(node, "lineno", 0)


def circles(graph: dict[str, dict[str, int]]) -> list[list[str]]:
    """The sets of modules that can each be reached from the others (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(one: str) -> None:
        index[one] = low[one] = len(index)
        stack.append(one)
        for other in graph[one]:
            if other not in index:
                visit(other)
                low[one] = min(low[one], low[other])
            elif other in stack:
                low[one] = min(low[one], index[other])
        if low[one] == index[one]:
            at = stack.index(one)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def shown(graph: dict[str, dict[str, int]], circle: list[str]) -> str:
    return "\n".join(
        f"{one}:{line} imports {other}" for one in circle for other, line in graph[one].items() if other in circle
    )


def test_no_imports_go_in_a_circle() -> None:
    trees = modules(ROOT)
    graph = {name: dict(imports(name, tree, trees)) for name, tree in trees.items()}
    assert len(graph) > 200
    found = circles(graph)
    assert not found, "\n\n".join(shown(graph, circle) for circle in found)


def test_every_exception_is_still_one() -> None:
    trees = modules(ROOT)
    for (name, other), why in BY_NAME.items():
        assert why
        assert other in trees
        assert other in ast.unparse(trees[name])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from nblb.b import f", "from nblb.a import g"),
        ("import nblb.b", "def f():\n    from nblb import a"),
        ("def f():\n    import nblb.b", "class K:\n    def f(self):\n        from nblb.a import g"),
        ("from nblb import b", "from importlib import import_module\nimport_module('nblb.a')"),
    ],
)
def test_a_circle_is_found(tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "nblb").mkdir()
    (tmp_path / "nblb" / "__init__.py").write_text("")
    (tmp_path / "nblb" / "a.py").write_text(first)
    (tmp_path / "nblb" / "b.py").write_text(second)
    trees = modules(tmp_path)
    graph = {name: dict(imports(name, tree, trees)) for name, tree in trees.items()}
    assert circles(graph) == [["nblb.a", "nblb.b"]]
    quiet = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nblb import a"
    trees["nblb.b"] = ast.parse(quiet)
    assert not circles({name: dict(imports(name, tree, trees)) for name, tree in trees.items()})
