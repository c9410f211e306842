"""Tracebacks of nblb's errors in a notebook: only the user's lines and the worker's lines, in the same colours.

By default IPython would show the frames of nblb between the cell and its error, and before it the original exception,
which arrives without its frames. Neither helps the author of the cell. `%debug` still has all frames.
"""

from __future__ import annotations

import itertools
import re
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nblb._version import PACKAGE_FOLDER
from nblb.errors import NblbError, TaskFailed
from nblb.notebook.kernel.environment import shell

AROUND = 2  # source lines shown before and after the one that raised
RED, GREEN, CYAN, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[39m"
ARROW = "---->"
# Basic colours, which every theme keeps readable; palette and bold colours can be dark on dark.
SCHEME = {
    "Token": "",
    "Token.Keyword": "green",
    "Token.Operator.Word": "green",
    "Token.Literal": "blue",
    "Token.Literal.String.Interpol": "",
    "Token.Name.Exception": "red",
    "Token.Comment": "magenta",
}

_own = Path(PACKAGE_FOLDER)
_place = re.compile(
    r'^  (?:File "(?P<file>[^"]+)"|(?P<cell>Cell In\[\d+\])), line (?P<line>\d+)(?:, in (?P<name>.+))?$'
)
_raised = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?P<rest>:.*|$)")
_between = ("asyncio", "concurrent")  # standard library packages whose frames appear between a cell and nblb


def install() -> None:
    """Makes IPython use `rendered` for nblb's errors."""
    NblbError._render_traceback_ = rendered  # type: ignore[attr-defined]


def remove() -> None:
    """Undoes `install`."""
    if "_render_traceback_" in vars(NblbError):
        del NblbError._render_traceback_  # type: ignore[attr-defined]


def mistake(error: Exception) -> None:
    """Shows a TypeError or the like in the same way if nblb has raised it itself; one of the user's code stays."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if frames and _is_ours(Path(frames[-1][0].f_code.co_filename)) and not hasattr(error, "_render_traceback_"):
        error._render_traceback_ = lambda: rendered(error)  # type: ignore[attr-defined]


def rendered(error: Exception) -> list[str]:
    """The lines that IPython shows for an error of nblb."""
    here = shell()
    if here is None:
        raise RuntimeError("rendered() was called outside IPython; only IPython calls it")
    message = remote(error, here) if isinstance(error, TaskFailed) else str(error)
    # A stand-in of the same name without cause and context, which IPython would show first.
    shown = type(type(error).__name__, (_Shown,), {})(message)
    lines: list[str] = here.InteractiveTB.structured_traceback(type(shown), shown, of_the_user(error.__traceback__))
    return lines


class _Shown(Exception):
    """An exception with only a name and a message, for IPython to show."""


def of_the_user(tb: types.TracebackType | None) -> types.TracebackType | None:
    """The same traceback without the frames of nblb and of the libraries between nblb and the cell."""
    kept: list[types.TracebackType] = []
    while tb is not None:
        if not _is_ours(Path(tb.tb_frame.f_code.co_filename)):
            kept.append(tb)
        tb = tb.tb_next
    chain: types.TracebackType | None = None
    for one in reversed(kept):
        chain = types.TracebackType(chain, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return chain


def _is_ours(file: Path) -> bool:
    return _own in file.parents or (file.parent.name in _between and "site-packages" not in file.parts)


def remote(error: TaskFailed, here: Any) -> str:
    """The worker's traceback with source lines around each of the user's frames, in IPython's format."""
    frames = {(frame["file"], frame["line"]): frame for frame in error.frames}
    paint = _Paint(plain=str(getattr(here, "colors", "")).lower() == "nocolor")
    return "\n".join(_lines(str(error).splitlines(), frames, paint))


def _lines(text: list[str], frames: dict[Any, dict[str, Any]], paint: _Paint) -> Iterator[str]:
    at = 0
    while at < len(text):
        line = text[at]
        at += 1
        if found := _place.match(line):
            source = []
            while at < len(text) and text[at].startswith("    "):
                source.append(text[at])
                at += 1
            frame = frames.get((found["cell"] or found["file"], int(found["line"])))
            yield paint.place(found)
            around = list(paint.around(frame)) if frame else []  # empty for code from eval or exec
            yield from around or map(paint.code, source)
            if at < len(text) and (raised := _raised.match(text[at])):
                at += 1
                yield f"{paint(RED, raised['kind'])}{raised['rest']}"
        else:
            yield line


class _Paint:
    """The colours of IPython's tracebacks, or none."""

    def __init__(self, plain: bool) -> None:
        self.plain = plain

    def __call__(self, colour: str, text: str) -> str:
        return text if self.plain else f"{colour}{text}{PLAIN}"

    def place(self, found: re.Match[str]) -> str:
        where = f"{found['cell'] or found['file']}, line {found['line']}"
        inside = f", in {self(CYAN, found['name'])}" if found["name"] else ""
        return f"{self(GREEN, where)}{inside}"

    def around(self, frame: dict[str, Any]) -> Iterator[str]:
        """The source lines of a frame, with an arrow at the line that raised."""
        first, line = int(frame["first"]), int(frame["line"])
        at = line - first
        if not 0 <= at < len(frame["source"]):
            return
        begin = max(0, at - AROUND)
        shown = frame["source"][begin : at + AROUND + 1]
        if shown[at - begin][:1].isspace():  # leave out lines after the end of the function
            shown[at - begin :] = itertools.takewhile(lambda text: text[:1].isspace() or not text, shown[at - begin :])
        for number, source in enumerate(self.code("\n".join(shown)).split("\n"), first + begin):
            mark = (
                self(GREEN, f"{ARROW} {number}") if number == line else f"{number:>{len(ARROW) + 1 + len(str(line))}}"
            )
            yield f"{mark} {source}".rstrip()

    def code(self, source: str) -> str:
        if self.plain or not source.strip(" ^~"):  # carets below a line
            return source
        from pygments import highlight
        from pygments.formatters import TerminalFormatter
        from pygments.lexers import PythonLexer
        from pygments.token import string_to_tokentype

        formatter = TerminalFormatter(
            colorscheme={string_to_tokentype(name): (colour, colour) for name, colour in SCHEME.items()}
        )
        return str(highlight(source, PythonLexer(stripnl=False, ensurenl=False), formatter))
