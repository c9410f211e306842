"""Access to all that tasks have printed and displayed, read from the files in which their hubs keep it.

`TaskOutputAccess` and `JobOutputAccess` are the parts of TaskFuture and Job for it. Where the files cannot be read (the
task is forgotten, or the core belongs to another account) there is the tail that the core and this process hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from nblb.client.futures.output import TAIL_CHARS, JobOutput, OutputText, TaskOutput
from nblb.errors import NblbError
from nblb.protocol.messages import TaskPrinted
from nblb.shared_files.output_log import Following, KeptOutput, Piece, decoded, latest

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection
    from nblb.client.futures.live import LiveState
    from nblb.client.jobs.ledger import Ledger

Stream = Literal["", "stdout", "stderr"]
SHOWN_BYTES = 8 * 1024 * 1024  # of displays that are read when a job is attached to …
SAID_BYTES = 256 * 1024  # … and of text
MOST_DISPLAYS = 50


def folder(connection: Connection) -> str:
    """Where the files are, as the core has said."""
    welcome = connection.session.welcome
    return welcome.output if welcome is not None else ""


class TaskOutputAccess:
    """stdout, stderr, output, read_output."""

    connection: Connection
    _record: str
    _item: int
    _printed: TaskOutput | None = None

    if TYPE_CHECKING:

        @property
        def said(self) -> LiveState: ...

    @property
    def stdout(self) -> OutputText:
        """All that the task has printed so far (LB_OUTPUT_MB of it; then head and tail)."""
        return self.output("stdout")

    @property
    def stderr(self) -> OutputText:
        """All that it has written to stderr: logging, warnings, C code."""
        return self.output("stderr")

    def output(self, stream: Stream = "", tail: int | None = None) -> OutputText:
        """What the task has written to a stream; without one to both, in the order in which it was written.

        Parameters
        ----------
        tail
            Only so many lines from the end; nothing before them is read.
        """
        if stream not in ("", "stdout", "stderr"):
            raise ValueError(f'stream is {stream!r}; it must be "stdout", "stderr" or "" for both')
        kept = self._kept()
        if kept:
            return OutputText("".join(kept.text(stream)) if tail is None else kept.tail(tail, stream))
        text = "".join(self._remembered(name) for name in ("stdout", "stderr") if stream in ("", name))
        return OutputText(text if tail is None else "".join(text.splitlines(keepends=True)[-tail:] if tail > 0 else ()))

    def read_output(self, stream: Stream = "") -> Iterator[str]:
        """The same in pieces of at most 4 MiB, for output that is too long to be held as one text."""
        kept = self._kept()
        return kept.text(stream) if kept else iter([self.output(stream)])

    def follow_output(self) -> Following:
        """For those who show it as it comes: its `new()` are the pieces since the last call."""
        return Following(folder(self.connection), self._record, self._item)

    def _kept(self) -> KeptOutput:
        return KeptOutput(folder(self.connection), self._record, self._item)

    def _remembered(self, stream: str) -> str:
        """The tail that the core has, or what has arrived here."""
        here = self._printed.tail(stream) if self._printed is not None else ""
        try:
            about = self.connection.ask("task", {"task": self._record, "first": self._item})
        except NblbError:
            return here
        return str(about[stream]) if about and about[stream] else here

    def printed(self, printed: TaskPrinted) -> None:
        """A word of the task, in the connection's thread."""
        if self._printed is None:
            self._printed = TaskOutput()
        self._printed.add(printed.stream, printed.text, printed.heard)

    def printed_after(self, stream: str, at: int) -> tuple[str, int]:
        """What has arrived of a stream since a place in it (0: its begin), and the place for the next call."""
        return self._printed.after(stream, at) if self._printed is not None else ("", at)

    def latest_output(self) -> str:
        """What this process holds of it, without asking anybody: the last 64 KiB of each stream."""
        return self._printed.both() if self._printed is not None else ""

    def recall(self) -> None:
        """Take up what it has said before this process listened, so that its card shows it."""
        self.recall_output()
        self.said.recall((text, 0) for text in self._kept().displays(MOST_DISPLAYS))

    def recall_output(self) -> None:
        """Only what it has printed."""
        kept = self._kept()
        if kept:
            written, output = kept.nbytes(), TaskOutput()
            for stream in ("stdout", "stderr"):
                if written.get(stream):
                    output.add(stream, kept.tail(TAIL_CHARS // 64, stream)[-TAIL_CHARS:], written[stream])
            self._printed = output


class JobOutputAccess:
    """The same for a job that was attached to: the latest lines and pictures of its items."""

    connection: Connection
    _ledger: Ledger
    _output: JobOutput

    def recall(self) -> None:
        """Take up what its items have said before this process listened, so that its card shows it."""
        index = {task: record.index for task, record in self._ledger.records.items()}
        self._recall_displays(latest(folder(self.connection), index, "shown", SHOWN_BYTES), index)
        output = JobOutput()
        for record, item, piece in latest(folder(self.connection), index, "said", SAID_BYTES):
            output.add(index[record] + item, piece.stream, "".join(decoded(iter([piece]))))
        self._output = output

    def _recall_displays(self, found: Iterable[tuple[str, int, Piece]], index: Mapping[str, int]) -> None:
        raise NotImplementedError
