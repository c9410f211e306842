"""What tasks print, as far as it is kept here: the tail of each stream of a task, the last lines of a job."""

from __future__ import annotations

from collections import deque
from typing import Any

from nblb.client.snapshots import OutputLine
from nblb.shared_files.output_log import size

TAIL_CHARS = 64 * 1024  # of a stream of a task
LINES = 100  # of a job
LINE_CHARS = 500
REPR_CHARS = 8 * 1024  # of a text that is shown because it is the last line of a cell


class OutputText(str):
    """All of a task's output: a str, whose repr is short, so that a cell which ends with it does not show 100 MB."""

    __slots__ = ()

    def __repr__(self) -> str:
        if len(self) <= REPR_CHARS:
            return super().__repr__()
        head, tail = str.__repr__(self[: REPR_CHARS // 2])[:-1], str.__repr__(self[-REPR_CHARS // 2 :])[1:]
        return f"{head} … {size(len(self) - REPR_CHARS)} more, print() shows all … {tail}"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))


class TaskOutput:
    """One task's streams: text with a bound, whose places are counted from the stream's begin all the same."""

    def __init__(self) -> None:
        self._streams: dict[str, tuple[str, int]] = {}  # the tail, and where it ends
        self._heard: dict[str, int] = {}

    def add(self, stream: str, text: str, heard: int = 0) -> None:
        tail, end = self._streams.get(stream, ("", 0))
        self._streams[stream] = (tail + text)[-TAIL_CHARS:], end + len(text)
        self._heard[stream] = heard or self._heard.get(stream, 0) + len(text)

    @property
    def nbytes(self) -> int:
        """What the task has written in all, as far as its hub has told."""
        return sum(self._heard.values())

    def tail(self, stream: str) -> str:
        return self._streams.get(stream, ("", 0))[0]

    def after(self, stream: str, at: int) -> tuple[str, int]:
        """What was printed after this place, or as much of its end as is kept; and the place after it."""
        tail, end = self._streams.get(stream, ("", 0))
        return (tail[-(end - at) :] if end > at else ""), max(at, end)

    def both(self) -> str:
        """stdout, and what went to stderr below it."""
        return "\n".join(text.rstrip("\n") for text in (self.tail("stdout"), self.tail("stderr")) if text)


class JobOutput:
    """The latest lines of all tasks of a job, each with its item. A line that is not complete yet may grow."""

    def __init__(self) -> None:
        self._lines: deque[OutputLine] = deque(maxlen=LINES)
        self._open: dict[tuple[int, str], str] = {}  # lines without an end

    def add(self, item: int, stream: str, text: str) -> None:
        *whole, rest = (self._open.pop((item, stream), "") + text).split("\n")
        for line in whole[-LINES:]:
            self._lines.append(OutputLine(item, stream, shown(line)))
        if rest:
            self._open[item, stream] = rest[-LINE_CHARS:]
            while len(self._open) > LINES:
                del self._open[next(iter(self._open))]

    def latest(self, most: int) -> tuple[OutputLine, ...]:
        """The last lines, and those that are being written."""
        writing = [OutputLine(item, stream, shown(text)) for (item, stream), text in list(self._open.items())]
        return tuple([*self._lines, *writing][-most:])


def shown(line: str) -> str:
    """What a terminal would show of a line: after the last return to its begin."""
    return line.rstrip("\r").rpartition("\r")[2][:LINE_CHARS]
