"""The task that runs a `%%lb` cell in a worker and returns its value and its variables.

The result of the task is the value of the cell's last expression. The variables are part of it and enter the
notebook's namespace when the result is first unpickled in the kernel that submitted the cell (`Result.__reduce__`).
Workers load this module too, so it imports nothing of the notebook.
"""

from __future__ import annotations

import ast
import io
import linecache
import types
from collections.abc import Callable, Iterable
from typing import Any

Landing = Callable[[dict[str, Any], dict[str, str]], None]  # (variables, name -> why it stays in the worker)

landings: dict[str, Landing] = {}  # token -> landing, for this kernel's cells
PLAIN = (type(None), bool, int, float, complex, str, bytes, types.ModuleType)


class Shown:
    """A stand-in with the repr of a value that cannot be pickled."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Result:
    """A cell's result: unpickles as the value, and passes the variables to the token's landing if it is here."""

    def __init__(self, value: Any, token: str, variables: dict[str, Any], left: dict[str, str]) -> None:
        self._parts = (value, token, variables, left)

    def __reduce__(self) -> tuple[Any, ...]:
        return arrive, self._parts


def arrive(value: Any, token: str, variables: dict[str, Any], left: dict[str, str]) -> Any:
    """Unpickles a Result: delivers its variables and returns its value."""
    landing = landings.pop(token, None)
    if landing is not None:
        landing(variables, left)
    return value


def run_cell(source: str, filename: str, wanted: Iterable[str], names: dict[str, Any], token: str) -> Result:
    """Runs a cell with these names, and returns its value and the variables that it has assigned."""
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
    """Splits off the expression at the end, if there is one."""
    if not tree.body or not isinstance(tree.body[-1], ast.Expr):
        return tree, None
    *body, last = tree.body
    return ast.Module(body, tree.type_ignores), ast.Expression(last.value)  # type: ignore[attr-defined]


class _DiscardedOutput(io.RawIOBase):
    """A file that discards what is written to it."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def unfit(value: Any) -> str:
    """Returns why a value cannot be pickled, "" if it can; does not copy large arrays."""
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
