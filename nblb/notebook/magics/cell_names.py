"""Names that a cell reads from its notebook and names that it assigns, found from its syntax tree alone."""

from __future__ import annotations

import ast
import copy
import symtable
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CellNames:
    """The names of a cell's top level."""

    reads: frozenset[str]  # before the cell itself assigns them, as far as the syntax tree shows
    binds: frozenset[str]


def names(source: str) -> CellNames:
    """Returns the names that a cell reads and binds; raises SyntaxError if it is not Python."""
    reads: set[str] = set()
    _flow(ast.parse(source).body, set(), reads)
    return CellNames(frozenset(reads), frozenset(_table(source)[1]))


def _flow(body: Iterable[ast.stmt], bound: set[str], reads: set[str]) -> set[str]:
    """Adds to `reads` the names that these statements read before binding them; returns the names bound after them."""
    for statement in body:
        blocks = _blocks(statement)
        read, binds = _table(ast.unparse(_head(statement) if blocks else statement))
        reads |= (read | _touched(statement)) - bound
        if not blocks:
            bound |= binds
            continue
        after = [_flow(block, bound | binds, reads) for block in blocks]
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            bound |= after[0]
        elif isinstance(statement, ast.If) and statement.orelse:
            bound |= set.intersection(*after)
    return bound


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The bodies of a compound statement, except functions and classes, which have their own scope."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return []
    blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
    blocks += [part.body for name in ("handlers", "cases") for part in getattr(statement, name, ())]
    return [block for block in blocks if block]


def _head(statement: ast.stmt) -> ast.stmt:
    """The same statement with empty bodies."""
    head = copy.copy(statement)
    for name in ("body", "orelse", "finalbody"):
        if getattr(head, name, None):
            setattr(head, name, [ast.Pass()])
    for name in ("handlers", "cases"):
        if getattr(head, name, None):
            parts = [copy.copy(part) for part in getattr(head, name)]
            for part in parts:
                part.body = [ast.Pass()]
            setattr(head, name, parts)
    return head


def _touched(statement: ast.stmt) -> set[str]:
    """Names that `x += 1` and `del x` read, although the symbol table lists them only as bound."""
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    if isinstance(statement, ast.Delete):
        return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return set()


def _table(source: str) -> tuple[set[str], set[str]]:
    """(names read, names bound) at the top level, including global names used in functions."""
    reads: set[str] = set()
    binds: set[str] = set()
    _visit(symtable.symtable(source, "<cell>", "exec"), reads, binds)
    return reads, binds


def _visit(table: symtable.SymbolTable, reads: set[str], binds: set[str]) -> None:
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if not (top or symbol.is_global()):
            continue
        if symbol.is_referenced():
            reads.add(symbol.get_name())
        if symbol.is_assigned() or symbol.is_imported():
            binds.add(symbol.get_name())
    for child in table.get_children():
        _visit(child, reads, binds)
