"""The output of tasks that the client keeps: the tail of each stream of a task, the last lines of a job."""

from __future__ import annotations

from collections import deque
from typing import Any

from nblb.client.snapshots import OutputLine
from nblb.quantities import size

TAIL_CHARS = 64 * 1024  # kept of each stream of a task
LINES = 100  # kept of each job
LINE_CHARS = 500
REPR_CHARS = 8 * 1024  # of a text that is the value of a cell


class OutputText(str):
    """All of a task's output: a str with a short repr, so that a cell that ends with it does not show 100 MB."""

    __slots__ = ()

    def __repr__(self) -> str:
        if len(self) <= REPR_CHARS:
            return super().__repr__()
        head, tail = str.__repr__(self[: REPR_CHARS // 2])[:-1], str.__repr__(self[-REPR_CHARS // 2 :])[1:]
        return f"{head} … {size(len(self) - REPR_CHARS)} more, print() shows all … {tail}"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))


class TaskOutput:
    """The streams of one task: text of bounded length, with positions counted from the start of the stream."""

    def __init__(self) -> None:
        self._streams: dict[str, tuple[str, int]] = {}  # the tail, and its end position
        self._pieces: deque[tuple[str, str]] = deque()  # (stream, text) of both, in the order of writing
        self._chars = self._dropped = 0  # characters in the pieces, and the number of pieces that are not kept any more
        self._heard: dict[str, int] = {}

    def add(self, stream: str, text: str, heard: int = 0) -> None:
        tail, end = self._streams.get(stream, ("", 0))
        self._add_piece(stream, text)
        self._streams[stream] = (tail + text)[-TAIL_CHARS:], end + len(text)
        self._heard[stream] = heard or self._heard.get(stream, 0) + len(text)

    @property
    def nbytes(self) -> int:
        """The number of bytes that the task has written, as far as its hub has reported."""
        return sum(self._heard.values())

    def tail(self, stream: str) -> str:
        return self._streams.get(stream, ("", 0))[0]

    def after(self, stream: str, at: int) -> tuple[str, int]:
        """The text printed after this position (or the kept end of it), and the position behind it."""
        tail, end = self._streams.get(stream, ("", 0))
        return (tail[-(end - at) :] if end > at else ""), max(at, end)

    def recall(self, stream: str, text: str, heard: int) -> None:
        """Set the tail of a stream that was written before, without its place among the other's lines."""
        self._streams[stream] = text[-TAIL_CHARS:], len(text)
        self._heard[stream] = heard

    def recall_both(self, text: str) -> None:
        """Set the tail of both streams that were written before, in their order."""
        self._add_piece("stdout", text[-TAIL_CHARS:])

    def _add_piece(self, stream: str, text: str) -> None:
        self._pieces.append((stream, text))
        self._chars += len(text)
        while self._chars > 2 * TAIL_CHARS and len(self._pieces) > 1:
            self._chars -= len(self._pieces.popleft()[1])
            self._dropped += 1

    def pieces_after(self, at: int) -> tuple[list[tuple[str, str]], int]:
        """The pieces (stream, text) behind the first `at` ones, as far as they are kept, and the number of all."""
        pieces, dropped = list(self._pieces), self._dropped
        return pieces[max(0, at - dropped) :], dropped + len(pieces)

    def both(self) -> str:
        """The end of what the task has written to stdout and stderr, in the order in which it was written."""
        return "".join(text for _, text in list(self._pieces))[-TAIL_CHARS:].rstrip("\n")


class JobOutput:
    """The latest lines of all tasks of a job, each with its item. An incomplete line may still grow."""

    def __init__(self) -> None:
        self._lines: deque[OutputLine] = deque(maxlen=LINES)
        self._open: dict[tuple[int, str], str] = {}  # lines without a newline yet
        self._whole = 0  # complete lines so far, including those that are not kept any more

    @property
    def written(self) -> int:
        """The number of lines that the tasks have written, including incomplete ones."""
        return self._whole + len(self._open)

    def add(self, item: int, stream: str, text: str) -> None:
        *whole, rest = (self._open.pop((item, stream), "") + text).split("\n")
        self._whole += len(whole)
        for line in whole[-LINES:]:
            self._lines.append(OutputLine(item, stream, shown(line)))
        if rest:
            self._open[item, stream] = rest[-LINE_CHARS:]
            while len(self._open) > LINES:
                del self._open[next(iter(self._open))]

    def latest(self, most: int) -> tuple[OutputLine, ...]:
        """The last lines, including incomplete ones."""
        writing = [OutputLine(item, stream, shown(text)) for (item, stream), text in list(self._open.items())]
        return tuple([*self._lines, *writing][-most:])


def shown(line: str) -> str:
    """The visible part of a line in a terminal: what follows the last carriage return."""
    return line.rstrip("\r").rpartition("\r")[2][:LINE_CHARS]
