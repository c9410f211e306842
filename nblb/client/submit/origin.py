"""The notebook and cell that this code runs in, which the core records with each submission. Never imports IPython."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any

from nblb.user_text import clean, clean_name

LONGEST_PATH = 4096  # characters

_latest: tuple[Any, str] = (None, "")  # the request of the cell, and its origin


def notebook() -> str:
    """The path of the notebook; "" outside of one."""
    path = os.environ.get("JPY_SESSION_NAME", "")
    if not path:
        shell = _shell()
        path = str(shell.user_ns.get("__vsc_ipynb_file__", "")) if shell is not None else ""
    return clean(path, LONGEST_PATH)


def origin() -> str:
    """The origin as 'path/of/notebook.ipynb#cell-id', or the known part of it."""
    global _latest
    if "IPython" not in sys.modules:
        return ""
    shell = _shell()
    if shell is None:
        return ""
    parent_of = getattr(shell, "get_parent", None)
    parent = parent_of() if parent_of is not None else shell.execution_count
    if parent is not _latest[0] and parent != _latest[0]:
        cell = parent.get("metadata", {}).get("cellId", "") if isinstance(parent, dict) else ""
        _latest = parent, f"{notebook()}#{clean_name(str(cell or cell_number(shell)))}"
    return _latest[1]


def cell_number(shell: Any) -> int:
    """The number of the running cell, as its prompt and IPython's own tracebacks show it.

    IPython 9.18 counts a cell before it runs and older versions after it, so `execution_count` alone does not tell.
    """
    numbers: dict[str, int] = getattr(getattr(shell, "compile", None), "_filename_map", {})
    frame: FrameType | None = sys._getframe()
    found = None
    while frame is not None:
        found = numbers.get(frame.f_code.co_filename, found)
        frame = frame.f_back
    return int(shell.execution_count if found is None else found)


def _shell() -> Any | None:
    ipython = sys.modules.get("IPython")
    get = getattr(ipython, "get_ipython", None)  # missing while IPython is being imported
    return get() if get is not None else None
