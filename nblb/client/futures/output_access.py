"""Access to everything that tasks have printed and displayed, read from the files in which their hubs keep it.

`TaskOutputAccess` is the base class that gives it to TaskFuture. If the files cannot be read (the task was dropped, or
the core belongs to another account), the tail that the core or this process keeps is returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from nblb.client.futures.output import OutputText, TaskOutput
from nblb.errors import NblbError
from nblb.protocol.messages import FetchOutput, OutputTold
from nblb.shared_files.output_log import KeptOutput

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection
    from nblb.client.futures.live import LiveState

Stream = Literal["", "stdout", "stderr"]
SHOWN_BYTES = 8 * 1024 * 1024  # of displays to read when a job is attached to …
SAID_BYTES = 256 * 1024  # … and of printed text
MOST_DISPLAYS = 50
FETCH_S = 600.0  # the longest wait for output from another computer


def folder(connection: Connection) -> str:
    """The folder of the output files, as the core reported it."""
    welcome = connection.session.welcome
    return welcome.output if welcome is not None else ""


def kept_output(connection: Connection, record: str, item: int) -> KeptOutput:
    """All that a task has printed, as far as its hub has stored it; of a core on another computer, it is fetched.

    False if there is nothing, or it cannot be read.
    """
    if not connection.is_remote:
        return KeptOutput(folder(connection), record, item)
    question = FetchOutput(request=connection.request(), task=record, item=item)
    try:
        told = connection.wait_for(connection.question(question), FETCH_S)
    except NblbError:
        return KeptOutput("", record, item)
    if not isinstance(told, OutputTold) or not told.segments:
        return KeptOutput("", record, item)
    return KeptOutput.of_segments(record, item, told.segments, told.payload.buffers)


class TaskOutputAccess:
    """The methods of TaskFuture that return output: stdout, stderr, output, read_output."""

    _connection: Connection
    _record: str
    _item: int
    _printed: TaskOutput | None = None
    _fetched: KeptOutput | None = None  # of a core on another computer, once the task has ended

    if TYPE_CHECKING:

        @property
        def said(self) -> LiveState: ...
        def done(self) -> bool: ...

    @property
    def stdout(self) -> OutputText:
        """The text that the task has printed so far; beyond LB_OUTPUT_MB, only its head and tail."""
        return self.output("stdout")

    @property
    def stderr(self) -> OutputText:
        """The text that the task has written to stderr so far: logging, warnings, C code."""
        return self.output("stderr")

    def output(self, stream: Stream = "", tail: int | None = None) -> OutputText:
        """Return the text that the task has written to a stream, or to both in the order in which it was written.

        Parameters
        ----------
        stream
            "stdout", "stderr", or "" for both.
        tail
            Return only this many lines from the end, and read nothing before them.

        Returns
        -------
        OutputText
            A str with a short repr; beyond LB_OUTPUT_MB of output, only its head and tail.

        Raises
        ------
        ValueError
            `stream` is none of these.

        Examples
        --------
        >>> print(future.output(tail=20))
        """
        if stream not in ("", "stdout", "stderr"):
            raise ValueError(f'stream is {stream!r}; it must be "stdout", "stderr" or "" for both')
        kept = self._kept()
        if kept:
            return OutputText("".join(kept.text(stream)) if tail is None else kept.tail(tail, stream))
        text = "".join(self._remembered(name) for name in ("stdout", "stderr") if stream in ("", name))
        return OutputText(text if tail is None else "".join(text.splitlines(keepends=True)[-tail:] if tail > 0 else ()))

    def read_output(self, stream: Stream = "") -> Iterator[str]:
        """Read the output in pieces of at most 4 MiB, for output that is too long for one text.

        Parameters
        ----------
        stream
            "stdout", "stderr", or "" for both.

        Returns
        -------
        iterator of str
            The pieces, in order.

        Examples
        --------
        >>> for piece in future.read_output("stdout"):
        ...     file.write(piece)
        """
        kept = self._kept()
        return kept.text(stream) if kept else iter([self.output(stream)])

    def _kept(self) -> KeptOutput:
        if self._fetched is not None:
            return self._fetched
        ended = self.done()
        found = kept_output(self._connection, self._record, self._item)
        if ended and self._connection.is_remote:
            self._fetched = found
        return found

    def _remembered(self, stream: str) -> str:
        """The tail that the core keeps, or the text that has arrived here."""
        here = self._printed.tail(stream) if self._printed is not None else ""
        try:
            about = self._connection.ask("task", {"task": self._record, "first": self._item})
        except NblbError:
            return here
        return str(about[stream]) if about and about[stream] else here
