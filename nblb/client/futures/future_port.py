"""FuturePort: the methods of a TaskFuture that the connection, its job and front-ends call, hidden from users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nblb import payload
from nblb.client import front_end
from nblb.client.futures.live import LiveState
from nblb.client.futures.output import TAIL_CHARS, TaskOutput
from nblb.client.futures.output_access import MOST_DISPLAYS, folder
from nblb.errors import LoadBalancerUnreachable, NblbError
from nblb.protocol.messages import (
    Failure,
    KnobOffered,
    SubmitTask,
    TaskChanged,
    TaskEmitted,
    TaskEnded,
    TaskPrinted,
    TaskState,
)
from nblb.shared_files.output_log import Following

if TYPE_CHECKING:
    from nblb.client.futures.task_future import TaskFuture


class FuturePort:
    """The inner methods of a TaskFuture: one object serves all futures, because a kernel may have a million of them.

    Each method takes the future. The I/O thread calls `settle` to `connection_closed`, and calls the listeners.
    """

    __slots__ = ()

    def settle(self, future: TaskFuture, ended: TaskEnded, fresh: Sequence[tuple[int, int]]) -> bool:  # noqa: ARG002  # it has one item
        if ended.state is TaskState.DONE:
            future._ended = ended
            future._finish_well()
        else:
            self.finish(future, ended, None)
        return future._listeners is not None

    def finish(self, future: TaskFuture, ended: TaskEnded, load: Callable[[], Any] | None) -> None:
        """Set the end of a task; a future that was cancelled in this process stays cancelled."""
        future._ended = ended
        if ended.state is TaskState.DONE:
            future._load = load
            future._finish_well()
            return
        future._failure = ended.failure
        if ended.state is TaskState.CANCELLED:
            future._cancel_here()
        else:
            failure = ended.failure or Failure(message="the core gave no reason")
            future._finish_badly(payload.to_exception(failure, future.task_id, ended.state, cause=False))

    def reject(self, future: TaskFuture, task: str, failure: Failure, spec: SubmitTask | None, first: int = 0) -> None:  # noqa: ARG002
        self.finish(future, TaskEnded(task=task, state=TaskState.FAILED, failure=failure), None)

    def show(self, future: TaskFuture, changed: TaskChanged) -> None:
        if not future.done():
            future._changed = changed

    def never_sent(self, future: TaskFuture, error: NblbError) -> None:
        """End the future with this error, because the call could not be sent."""
        failure = Failure(kind=type(error).__name__, message=str(error))
        future._ended = TaskEnded(task=future._record, state=TaskState.FAILED, failure=failure)
        future._finish_badly(error)

    def connection_closed(self, future: TaskFuture, error: LoadBalancerUnreachable) -> None:
        future._finish_badly(error)
        self.turned(future)  # ends the waits for a state

    def turned(self, future: TaskFuture) -> None:
        for listener in [*(future._listeners or ())]:
            listener()

    def add_listener(self, future: TaskFuture, listener: Callable[[], Any]) -> None:
        """Call `listener()`, on another thread, whenever something has changed."""
        future._listeners = [*(future._listeners or ()), listener]

    def remove_listener(self, future: TaskFuture, listener: Callable[[], Any]) -> None:
        future._listeners = [known for known in future._listeners or () if known != listener]

    def live_state(self, future: TaskFuture) -> LiveState:
        """The live state of the task."""
        if future._said is None:
            future._said = LiveState()
        return future._said

    def received(self, future: TaskFuture, message: TaskEmitted | KnobOffered | TaskPrinted) -> None:
        """Apply a live message of the task (on the I/O thread)."""
        if isinstance(message, TaskEmitted):
            self.live_state(future).emitted(message)
            self.notify_emitted(future)
        elif isinstance(message, KnobOffered):
            self.live_state(future).offered(message)
        else:
            picture = self.live_state(future).displayed(message.text)
            if picture is not None:
                front_end.shown(future, picture)

    def notify_emitted(self, future: TaskFuture) -> None:
        if future._on_emit:
            value = future.emitted
            for callback in future._on_emit:
                callback(value)

    def follow_output(self, future: TaskFuture) -> Following:
        """A reader that follows the output as it comes: `new()` returns the pieces since the last call."""
        return Following(folder(future._connection), future._record, future._item)

    def printed(self, future: TaskFuture, printed: TaskPrinted) -> None:
        """Add text that the task printed (on the I/O thread)."""
        if future._printed is None:
            future._printed = TaskOutput()
        future._printed.add(printed.stream, printed.text, printed.heard)

    def printed_after(self, future: TaskFuture, stream: str, at: int) -> tuple[str, int]:
        """The text of a stream that arrived after a position (0: its start), and the position for the next call."""
        return future._printed.after(stream, at) if future._printed is not None else ("", at)

    def pieces_after(self, future: TaskFuture, at: int) -> tuple[list[tuple[str, str]], int]:
        """What arrived of both streams behind the first `at` pieces, in the order of writing, and the number of all."""
        return future._printed.pieces_after(at) if future._printed is not None else ([], at)

    def latest_output(self, future: TaskFuture) -> str:
        """The output that is in this process already: the last 64 KiB of each stream."""
        return future._printed.both() if future._printed is not None else ""

    def recall(self, future: TaskFuture) -> None:
        """Read what the task displayed and printed before this process attached, so that its card shows it."""
        self.recall_output(future)
        self.live_state(future).recall((text, 0) for text in future._kept().displays(MOST_DISPLAYS))

    def recall_output(self, future: TaskFuture) -> None:
        """Read only what the task printed before this process attached."""
        kept = future._kept()
        if kept:
            written, output = kept.nbytes(), TaskOutput()
            for stream in ("stdout", "stderr"):
                if written.get(stream):
                    output.recall(stream, kept.tail(TAIL_CHARS // 64, stream), written[stream])
            output.recall_both(kept.tail(TAIL_CHARS // 64))
            future._printed = output
