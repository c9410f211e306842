"""lb.debug(): shows where a task failed, days later and without its process.

The worker saved what is shown when the task raised: source lines, and the variables of your own frames as short
texts; small variables also as values. A value is unpickled only when an expression or the debugger asks for it.
To run the failed call itself again, use `future.rerun_here()`.
"""

from __future__ import annotations

import difflib
import itertools
import sys
from collections.abc import Sequence
from typing import Any

from nblb import payload
from nblb.client.debug import saved_frames
from nblb.errors import NblbError, TaskFailed


class PostMortem:
    """The frames of a failure: `up()`, `down()`, `l()`, `p("x.shape")`, `where()`; `interact()` opens a debugger.

    It starts at the innermost frame of your own code.
    """

    def __init__(self, error: TaskFailed, frames: Sequence[dict[str, Any]]) -> None:
        self.error = error
        self.frames = list(frames)
        self.at = len(self.frames) - 1
        self._loaded: dict[int, dict[str, Any]] = {}

    @property
    def frame(self) -> dict[str, Any]:
        """The current frame."""
        return self.frames[self.at]

    @property
    def locals(self) -> dict[str, str]:
        """The variables of the current frame, as texts."""
        return dict(self.frame["locals"])

    def values(self, at: int | None = None) -> dict[str, Any]:
        """The variables of a frame: real values where they were saved, else a stand-in that shows the text."""
        at = self.at if at is None else at
        if at not in self._loaded:
            self._loaded[at] = {name: self._value(at, name) for name in self.frames[at]["locals"]}
        return self._loaded[at]

    def _value(self, at: int, name: str) -> Any:
        frame = self.frames[at]
        text, place = str(frame["locals"][name]), frame.get("values", {}).get(name)
        if place is None:
            return saved_frames.SavedRepr(text)
        begin, size = place
        try:
            return payload.load_value(self.error.frame_values[begin : begin + size])
        except Exception as problem:  # such as a class that cannot be imported here
            return saved_frames.SavedRepr(
                text, f"its value cannot be loaded here ({type(problem).__name__}: {problem})"
            )

    def up(self) -> PostMortem:
        """Go to the calling frame."""
        self.at = max(0, self.at - 1)
        return self

    def down(self) -> PostMortem:
        """Go to the called frame."""
        self.at = min(len(self.frames) - 1, self.at + 1)
        return self

    def p(self, expression: str) -> str:
        """A variable of this frame as text, or the value of an expression, computed from the saved values."""
        known = self.frame["locals"]
        if expression in known:
            return str(known[expression])
        if not expression.isidentifier():
            return repr(eval(expression, saved_frames.names_here(), self.values()))
        close = difflib.get_close_matches(expression, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known) or 'none'}"
        raise NblbError(f"{self.frame['function']} had no variable {expression!r}; {hint}")

    def l(self) -> str:  # noqa: E743
        """The source around the current line."""
        frame = self.frame
        lines = [f"{self._place(frame)} in {frame['function']}"]
        for number, text in enumerate(frame["source"], frame["first"]):
            lines.append(f"{'->' if number == frame['line'] else '  '} {number:4} {text}")
        return "\n".join(lines)

    def where(self) -> str:
        """All frames, the outermost first; an arrow marks the current one."""
        lines = []
        for number, frame in enumerate(self.frames):
            source = frame["source"]
            text = source[frame["line"] - frame["first"]].strip() if source else ""
            lines.append(f"{'>' if number == self.at else ' '} {self._place(frame)} in {frame['function']}:  {text}")
        return "\n".join([*lines, _last_line(self.error)])

    def interact(self) -> None:
        """Open a debugger (IPython's if it runs) on these frames: p, pp, up, down, l, w, q, any expression."""
        values = [self.values(at) for at in range(len(self.frames))]
        print(_last_line(self.error))
        debugger = _debugger()
        debugger.reset()
        debugger.interaction(None, saved_frames.traceback_of(self.frames, values))

    @staticmethod
    def _place(frame: dict[str, Any]) -> str:
        return f"{frame['file']} line {frame['line']}"

    def __repr__(self) -> str:
        variables = list(itertools.islice(self.frame["locals"].items(), 20))
        return "\n".join([self.where(), "", self.l(), *(f"     {name} = {value}" for name, value in variables)])


def _debugger() -> Any:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        return shell.debugger_cls()
    import pdb  # noqa: T100  # the user asked for a debugger

    return pdb.Pdb()


def _last_line(error: TaskFailed) -> str:
    """The line of the remote traceback that names the exception."""
    lines = str(error).splitlines()
    told = [line for line in lines if not line.startswith((" ", "called as ", "at "))]
    return told[-1] if told else ""


def debug(failed: Any) -> PostMortem:
    """Open the frames in which a task failed.

    Parameters
    ----------
    failed
        A future, a job (its first failure is shown), or a caught TaskFailed.

    Returns
    -------
    PostMortem
        The frames, to show and to walk through: `d.up()`, `d.p("x")`, `d.interact()`.

    Raises
    ------
    NblbError
        The task has not failed, or no frames were saved (its worker died, or it never ran).
    TypeError
        `failed` is not a future, a job or an exception.

    Examples
    --------
    >>> d = lb.debug(future)
    >>> d.up()
    """
    if not isinstance(failed, BaseException) and getattr(failed, "failed", None):
        failed = failed.failed[0]
    error = failed
    if not isinstance(failed, BaseException):
        if not hasattr(failed, "exception"):
            raise TypeError(f"lb.debug takes a future, a job or a TaskFailed, and this is {failed!r}")
        if not failed.done():
            raise NblbError(f"{failed!r} has not ended; see its progress, stdout and story() for what it does now")
        error = failed.exception()
    if isinstance(error, BaseException) and not isinstance(error, TaskFailed):
        error = error.__cause__ if isinstance(error.__cause__, TaskFailed) else error  # a future of an executor
    if error is None:
        raise NblbError(f"{failed!r} has not failed")
    frames = error.frames if isinstance(error, TaskFailed) else []
    if not frames:
        raise NblbError(
            f"no frames were saved for this error (of many alike, only the first keep theirs); rerun_here() runs "
            f"the call again in this process: {type(error).__name__}: {error}"
        )
    return PostMortem(error, frames)
