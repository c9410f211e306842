"""lb.debug: looks at where a task failed, days later and without its process.

What is shown was written down when the task raised: source lines, and the variables of your own frames as short
texts. To run the failed call itself under a real debugger, `future.rerun_here()`.
"""

from __future__ import annotations

import cmd
import difflib
import itertools
from collections.abc import Sequence
from typing import Any

from nblb.errors import NblbError, TaskFailed


class PostMortem:
    """The frames of a failure. `up()`, `down()`, `l()`, `p(name)`, `where()`; `interact()` asks for such words.

    It starts at the innermost frame of your own code.
    """

    def __init__(self, error: TaskFailed, frames: Sequence[dict[str, Any]]) -> None:
        self.error = error
        self.frames = list(frames)
        self.at = len(self.frames) - 1

    @property
    def frame(self) -> dict[str, Any]:
        """The one that is looked at."""
        return self.frames[self.at]

    @property
    def locals(self) -> dict[str, str]:
        """Its variables, as texts."""
        return dict(self.frame["locals"])

    def up(self) -> PostMortem:
        """To the caller."""
        self.at = max(0, self.at - 1)
        return self

    def down(self) -> PostMortem:
        """To what was called."""
        self.at = min(len(self.frames) - 1, self.at + 1)
        return self

    def p(self, name: str) -> str:
        """The value of a variable of this frame, as text."""
        known = self.frame["locals"]
        if name in known:
            return str(known[name])
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known) or 'none'}"
        raise NblbError(f"{self.frame['function']} had no variable {name!r} (values are texts: no expressions); {hint}")

    def l(self) -> str:  # noqa: E743
        """The source around the line."""
        frame = self.frame
        lines = [f"{self._place(frame)} in {frame['function']}"]
        for number, text in enumerate(frame["source"], frame["first"]):
            lines.append(f"{'->' if number == frame['line'] else '  '} {number:4} {text}")
        return "\n".join(lines)

    def where(self) -> str:
        """All frames, the outermost first; the one that is looked at is marked."""
        lines = []
        for number, frame in enumerate(self.frames):
            source = frame["source"]
            text = source[frame["line"] - frame["first"]].strip() if source else ""
            lines.append(f"{'>' if number == self.at else ' '} {self._place(frame)} in {frame['function']}:  {text}")
        return "\n".join([*lines, _last_line(self.error)])

    def interact(self) -> None:
        """Ask for commands as pdb does, until q."""
        _Prompt(self).cmdloop(f"{self.where()}\n\n{self.l()}")

    @staticmethod
    def _place(frame: dict[str, Any]) -> str:
        return f"{frame['file']} line {frame['line']}"

    def __repr__(self) -> str:
        variables = list(itertools.islice(self.frame["locals"].items(), 20))
        return "\n".join([self.where(), "", self.l(), *(f"     {name} = {value}" for name, value in variables)])


def _last_line(error: TaskFailed) -> str:
    """What was raised, from the remote traceback."""
    lines = str(error).splitlines()
    told = [line for line in lines if not line.startswith((" ", "called as ", "at "))]
    return told[-1] if told else ""


class _Prompt(cmd.Cmd):
    """The commands of `interact`."""

    prompt = "(nblb) "

    def __init__(self, post_mortem: PostMortem) -> None:
        super().__init__()
        self._looks_at = post_mortem

    def _print(self, text: str) -> None:
        print(text, file=self.stdout)

    def do_up(self, _: str) -> None:
        """u(p): to the caller."""
        self._print(self._looks_at.up().l())

    def do_down(self, _: str) -> None:
        """d(own): to what was called."""
        self._print(self._looks_at.down().l())

    def do_list(self, _: str) -> None:
        """l(ist): the source around the line."""
        self._print(self._looks_at.l())

    def do_where(self, _: str) -> None:
        """w(here): all frames."""
        self._print(self._looks_at.where())

    def do_p(self, name: str) -> None:
        """p NAME: a variable; p alone: all of them."""
        if not name.strip():
            self._print("\n".join(f"{key} = {value}" for key, value in self._looks_at.locals.items()))
            return
        try:
            self._print(self._looks_at.p(name.strip()))
        except NblbError as error:
            self._print(str(error))

    def do_quit(self, _: str) -> bool:
        """q(uit)."""
        return True

    def emptyline(self) -> bool:
        return False

    do_u, do_d, do_l, do_w, do_pp, do_q, do_EOF = do_up, do_down, do_list, do_where, do_p, do_quit, do_quit


def debug(failed: Any) -> PostMortem:
    """Look at where a task failed: a future, a job (its first failure), or a TaskFailed that was caught.

    Returns what shows the frames and walks them: `d = lb.debug(f)`, `d.up()`, `d.p("x")`, `d.interact()`.

    Raises
    ------
    NblbError
        It has not failed, or nothing was written down of where (its worker died, it was never run).
    """
    if not isinstance(failed, BaseException) and getattr(failed, "failed", None):
        failed = failed.failed[0]
    error = failed
    if not isinstance(failed, BaseException):
        if not hasattr(failed, "exception"):
            raise TypeError(f"lb.debug takes a future, a job or a TaskFailed, and this is {failed!r}")
        if not failed.done():
            raise NblbError(f"{failed!r} has not ended; what it does now is in its progress, stdout and story()")
        error = failed.exception()
    if isinstance(error, BaseException) and not isinstance(error, TaskFailed):
        error = error.__cause__ if isinstance(error.__cause__, TaskFailed) else error  # a future of an executor
    if error is None:
        raise NblbError(f"{failed!r} has not failed")
    frames = error.frames if isinstance(error, TaskFailed) else []
    if not frames:
        raise NblbError(
            f"nothing was written down of where this was raised (of many alike only the first are; rerun_here() makes "
            f"the call again in this process): {type(error).__name__}: {error}"
        )
    return PostMortem(error, frames)
