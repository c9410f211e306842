"""The layers, pure modules, sizes and names that ARCHITECTURE.md promises, checked."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.tested_elsewhere import TESTED_ELSEWHERE

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nblb"
LONGEST_FUNCTION = 60
LONGEST_FILE = 600
LONGEST_MAP = 120  # lines of ARCHITECTURE.md
MOST_FILES = 24  # of one folder, at one level

# The wire's TaskRejected is what the error of that name means, and StopAndKeep an order to a task.
SAME_NAME = {"TaskRejected": ["nblb/errors.py", "nblb/protocol/messages/to_client.py"]}
NOT_A_NAME = {
    "said", "talk", "hands", "crew", "nursery", "keenness", "patience", "shelf", "seat", "tie", "past", "marks",
    "parts", "word", "words", "voice",
}  # fmt: skip


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300
    )


def test_floors() -> None:
    """import-linter's contracts, in pyproject.toml."""
    said = run(
        "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_ruff() -> None:
    said = run("-m", "ruff", "check", "--no-cache", ".")
    assert said.returncode == 0, said.stdout
    said = run("-m", "ruff", "format", "--no-cache", "--check", ".")
    assert said.returncode == 0, said.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_types() -> None:
    said = run("-m", "mypy")
    assert said.returncode == 0, said.stdout


def test_files_are_short() -> None:
    long = []
    for path in sources():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > LONGEST_FILE:
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
    assert not long, f"longer than {LONGEST_FILE} lines: " + "; ".join(long)


def test_functions_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}: {length} lines"
        for path in sources()
        for function in functions(path)
        if (length := (function.end_lineno or 0) - function.lineno + 1 - _docstring(function)) > LONGEST_FUNCTION
    ]
    assert not long, f"longer than {LONGEST_FUNCTION} lines: " + "; ".join(long)


def _docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Its lines: a function that is described at length is not a long one."""
    first = function.body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return (first.end_lineno or 0) - first.lineno + 1 if is_text else 0


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_everything_is_tested_by_name() -> None:
    """Each package and each module at the top has a folder of tests, a test file, or tests that import it."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    names = {path.stem.removeprefix("test_") for path in files} | {path.parent.name for path in files}
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    units = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
    units |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    missing = {
        unit for unit in units - names if not re.search(rf"\bnblb\.{unit}\b|from nblb import .*\b{unit}\b", text)
    }
    assert not missing


def test_tests_mirror_modules() -> None:
    """Module nblb/a/b.py has tests/a/test_b.py, or a reason in TESTED_ELSEWHERE and a test that reaches its package."""
    alone = set()
    for path in sources():
        module = path.relative_to(PACKAGE).with_suffix("")
        if (
            module.name not in ("__init__", "__main__")
            and not (ROOT / "tests" / module.parent / f"test_{module.name}.py").is_file()
        ):
            alone.add(module.as_posix())
    untested = alone - TESTED_ELSEWHERE.keys()
    assert not untested, "write tests/…/test_NAME.py, or give a reason in tests/tested_elsewhere.py"
    assert not TESTED_ELSEWHERE.keys() - alone, "these have a test of their own, or are gone: take them off the table"
    wrong = [
        f"{module}: {file} does not reach nblb.{module.split('/')[0]}"
        for module, (file, why) in TESTED_ELSEWHERE.items()
        if not why or not reaches(ROOT / file, module.split("/")[0])
    ]
    assert not wrong


def reaches(test: Path, package: str) -> bool:
    """Whether a test file, or a helper in tests/ that it imports, names this package of nblb or runs it."""
    if not test.is_file():
        return False
    text = test.read_text(encoding="utf-8")
    for helper in re.findall(r"^from (tests[\w.]*) import|^import (tests[\w.]*)", text, re.MULTILINE):
        path = ROOT / f"{''.join(helper).replace('.', '/')}.py"
        text += path.read_text(encoding="utf-8") if path.is_file() else ""
    if test.parent.name == "end_to_end":  # a whole cluster
        return "import nblb" in text
    if package == "worker" and "PoolRig" in text:  # a pool of worker processes
        return True
    name = package.strip("_")
    return bool(re.search(rf"\bnblb\._*{name}_*\b|from nblb import [^\n]*\b{name}\b", text))


def test_each_class_has_a_name_of_its_own() -> None:
    """One word, one thing: a message and an error of one name are the one exception, the error is what it means."""
    homes: dict[str, list[str]] = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    shared = {name: files for name, files in homes.items() if len(files) > 1}
    assert shared == SAME_NAME, "two classes of one name: give one of them another"


def test_a_constant_has_one_value() -> None:
    """No module assigns a name twice at its top level: the second value would replace the first for all readers."""
    twice = []
    for path in sources():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        twice += [f"{path.relative_to(ROOT)}: {name}" for name in {*names} if names.count(name) > 1]
    assert not twice


def test_names_are_the_terms_of_the_field() -> None:
    """No module and no class is called by a metaphor or an everyday verb."""
    found = []
    for path in sources():
        found += [f"{path.relative_to(ROOT)}" for word in path.stem.split("_") if word in NOT_A_NAME]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                words = re.findall(r"[A-Z][a-z]*", node.name)
                if words and words[-1].lower() in NOT_A_NAME:
                    found.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not found


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    large = {
        folder.relative_to(ROOT).as_posix(): number
        for folder in {path.parent for path in sources()}
        if (number := len([path for path in folder.glob("*.py") if path.stem != "__init__"])) > MOST_FILES
    }
    assert not large, f"more than {MOST_FILES} modules at one level: {large}"


def test_the_map_stays_short() -> None:
    assert (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").count("\n") <= LONGEST_MAP


def test_import_is_light() -> None:
    """`import nblb` must not make a notebook wait: the heavy parts come when they are first used."""
    heavy = ["zmq", "panel", "bokeh", "ipywidgets", "anywidget", "cloudpickle", "pandas", "numpy", "IPython", "psutil"]
    said = run("-c", f"import sys, nblb; print([name for name in {heavy!r} if name in sys.modules])")
    assert said.stdout.strip() == "[]", said.stdout + said.stderr


def test_every_public_name_is_there() -> None:
    said = run("-c", "import nblb; print([name for name in nblb.__all__ if getattr(nblb, name, None) is None])")
    assert said.stdout.strip() == "[]", said.stdout + said.stderr


def test_nothing_of_this_machine_is_written_down() -> None:
    """No path or address of whoever wrote it stands in the repository."""
    words = ("/work" + "/", "/ro" + "ot/", "/opt/" + "wheels")
    kinds = {".py", ".md", ".toml", ".json", ".ipynb", ".yml", ".sh", ".txt", ".js", ".css", ""}
    files = repository_files()
    assert Path(__file__) in files
    found = []
    for path in files:
        if path.suffix in kinds and path.is_file() and path.name != "LICENSE":
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert not found


def repository_files() -> list[Path]:
    """What git tracks; in a copy without git, or where git is not installed, all files that it would not ignore."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    return [ROOT / name for name in listed.split("\0") if name] or list(unignored_files())


def unignored_files() -> Iterator[Path]:
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = {line.strip("/") for line in lines if line and not line.startswith("#")} | {".git"}

    def is_ignored(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in ignored)

    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not is_ignored(name)]
        yield from (Path(folder) / name for name in names if not is_ignored(name))


def test_a_copy_without_git_is_searched_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    tracked = set(repository_files())
    monkeypatch.setenv("PATH", "")
    found = set(repository_files())
    assert Path(__file__) in found
    assert {path for path in tracked if path.is_file()} <= found
    assert not [path for path in found if ".venv" in path.parts or "__pycache__" in path.parts]
