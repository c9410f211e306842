"""Saved frames, rebuilt as real Python frames from the source and the values, so that any debugger can walk them.

Each frame executes one generated line at the old line number, with the saved variables as its namespace; the line
calls the next frame, and the last frame raises. Debuggers need no special support, and no code of the task runs.
"""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

_NEXT = "__nblb_next__"


class SavedRepr:
    """A variable of which only the text was saved."""

    def __init__(self, text: str, why: str = "only its text was saved: it is large, secret, or has no pickle") -> None:
        self.__dict__["_parts"] = text, why

    def __repr__(self) -> str:
        return str(self._parts[0])

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self._parts[0]} has no {name} here: {self._parts[1]}")


class _End(Exception):
    """Raised where the task raised."""


def names_here() -> dict[str, Any]:
    """The other names that an expression can use: the notebook's variables, so that `np.mean(x)` works."""
    main = sys.modules.get("__main__")
    return {**(vars(main) if main is not None else {}), "__builtins__": __builtins__}


def traceback_of(
    frames: Sequence[Mapping[str, Any]], values: Sequence[Mapping[str, Any]]
) -> types.TracebackType | None:
    """A traceback through these frames, the outermost first."""
    space = names_here()
    _show_sources(frames)
    codes = [_code(frame) for frame in frames]
    waiting = iter(list(zip(codes, values, strict=True)))

    def enter() -> None:
        for code, variables in waiting:
            exec(code, space, {**variables})
        raise _End

    space[_NEXT] = enter
    try:
        enter()
    except _End as end:
        found, tb = [], end.__traceback__
        while tb is not None:
            if tb.tb_frame.f_code in codes:
                found.append(tb)
            tb = tb.tb_next
    finally:
        del space[_NEXT]
    chain: types.TracebackType | None = None
    for tb in reversed(found):
        chain = types.TracebackType(chain, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    return chain


def _name(frame: Mapping[str, Any]) -> str:
    return f"<{frame['file']}>"  # like a name that is no file: debuggers then show the saved source, not a file on disk


def _show_sources(frames: Sequence[Mapping[str, Any]]) -> None:
    """Put the saved source lines where debuggers look for them, at their line numbers."""
    files: dict[str, dict[int, str]] = {}
    for frame in frames:
        files.setdefault(_name(frame), {}).update(enumerate(frame["source"], frame["first"]))
    for name, lines in files.items():
        text = [f"{lines.get(number, '')}\n" for number in range(1, max(lines, default=0) + 1)]
        linecache.cache[name] = (sum(map(len, text)), None, text, name)


def _code(frame: Mapping[str, Any]) -> types.CodeType:
    """A code object that calls the next frame from the saved line."""
    code = compile("\n" * (frame["line"] - 1) + f"{_NEXT}()", _name(frame), "exec")
    return code.replace(co_name=frame["function"].rpartition(".")[2])
