"""A cell as a task: what `%%lb` runs in a worker, and how its value and its variables come back.

The result of the task is the value of the cell's last expression. Its variables travel with it and land in the
notebook's namespace when the result is first loaded in the kernel that submitted the cell (`Result.__reduce__`).
Loaded by workers too, so it imports nothing of the notebook.
"""

from __future__ import annotations

import ast
import io
import linecache
import types
from collections.abc import Callable, Iterable
from typing import Any

Landing = Callable[[dict[str, Any], dict[str, str]], None]  # (variables, what had to stay behind and why)

landings: dict[str, Landing] = {}  # of this kernel's cells, by their token
PLAIN = (type(None), bool, int, float, complex, str, bytes, types.ModuleType)


class Shown:
    """Stands for a value that cannot travel: it shows itself as the value did."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Result:
    """Unpickles as the value alone; the variables go where the token says, if that is here."""

    def __init__(self, value: Any, token: str, variables: dict[str, Any], left: dict[str, str]) -> None:
        self._parts = (value, token, variables, left)

    def __reduce__(self) -> tuple[Any, ...]:
        return arrive, self._parts


def arrive(value: Any, token: str, variables: dict[str, Any], left: dict[str, str]) -> Any:
    """What a pickled Result becomes."""
    landing = landings.pop(token, None)
    if landing is not None:
        landing(variables, left)
    return value


def run_cell(source: str, filename: str, wanted: Iterable[str], names: dict[str, Any], token: str) -> Result:
    """Runs a cell on these names, and brings back its value and the variables that it has given."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    space: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__, **names}
    body, last = _parted(ast.parse(source, filename))
    exec(compile(body, filename, "exec"), space)
    value = eval(compile(last, filename, "eval"), space) if last is not None else None
    variables, left = {}, {}
    for name in wanted:
        if name in space:
            why = unfit(space[name])
            if why:
                left[name] = why
            else:
                variables[name] = space[name]
    return Result(Shown(repr(value)) if unfit(value) else value, token, variables, left)


run_cell.__nblb_call__ = ""  # type: ignore[attr-defined]  # its arguments are the cell, its names and a token


def _parted(tree: ast.Module) -> tuple[ast.Module, ast.Expression | None]:
    """The statements, and the expression at the end if there is one."""
    if not tree.body or not isinstance(tree.body[-1], ast.Expr):
        return tree, None
    *body, last = tree.body
    return ast.Module(body, tree.type_ignores), ast.Expression(last.value)  # type: ignore[attr-defined]


class _DiscardedOutput(io.RawIOBase):
    """A file that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def unfit(value: Any) -> str:
    """Why a value cannot be pickled, "" if it can; large arrays are not copied to find out."""
    if isinstance(value, PLAIN) or _is_array(value):
        return ""
    import cloudpickle

    try:
        cloudpickle.Pickler(_DiscardedOutput(), protocol=5, buffer_callback=lambda _: False).dump(value)
    except Exception as error:
        return f"{type(value).__name__}: {error}".partition("\n")[0]
    return ""


def _is_array(value: Any) -> bool:
    kind = type(value)
    return (kind.__module__, kind.__name__) == ("numpy", "ndarray") and not value.dtype.hasobject
