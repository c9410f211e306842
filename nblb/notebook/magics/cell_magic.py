"""`%%lb`: runs a cell as a task. The variables that it reads are sent with it; those that it assigns come back."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from nblb.client.connection.waiting import interruptible
from nblb.client.submit.origin import cell_number
from nblb.errors import NotSerializable, TaskError, TaskFailed
from nblb.notebook import tracebacks
from nblb.notebook.kernel import output_routing
from nblb.notebook.kernel.environment import shell
from nblb.notebook.magics import cell_task
from nblb.notebook.magics.cell_names import CellNames, names

if TYPE_CHECKING:
    from nblb.client.futures.task_future import TaskFuture

LOOK_S = 0.1  # seconds between two reads of the cell's output
MAGIC = "get_ipython()."
log = logging.getLogger("nblb")


def submit(shell: Any, source: str, **options: Any) -> TaskFuture:
    """Submits the cell as a task; its variables come back with its result."""
    from nblb.client.task_decorator import task

    found, source = _read(shell, source)
    token = uuid.uuid4().hex
    filename = f"<ipython-input-{cell_number(shell)}-{token[:8]}>"
    wanted = sorted(found.binds)
    run = task(**{"name": "cell", **options})(cell_task.run_cell)
    space = _space(shell, found)
    left_here = []
    while True:
        try:
            future: TaskFuture = run.submit(source, filename, wanted, space, token)
            break
        except NotSerializable as problem:
            bad = next((name for name, value in space.items() if cell_task.unfit(value)), None)
            if bad is None or bad not in found.binds:  # a name that the cell assigns may never be read before
                where = f"{bad}, which the cell reads, cannot travel: " if bad else ""
                raise UsageError(f"{where}{problem}") from None
            left_here.append(bad)
            del space[bad]
    cell_task.landings[token] = lambda variables, left: _land(shell, variables, left)
    shell.user_ns["_lb"] = future
    return future


def _read(shell: Any, cell: str) -> tuple[CellNames, str]:
    """The cell's names and its source; lines are numbered as in the notebook, where %%lb is the first."""
    source = shell.transform_cell(cell)
    if MAGIC in source and MAGIC not in cell:
        raise UsageError("a cell under %%lb runs in a worker, where there is no IPython: it has no magics, ! or ?")
    try:
        return names(source), f"\n{source}"
    except SyntaxError as problem:
        said = (problem.text or "").strip()
        raise UsageError(f"line {(problem.lineno or 0) + 1} of the cell: {problem.msg}: {said}") from None


def _space(shell: Any, found: CellNames) -> dict[str, Any]:
    """The notebook variables that the cell reads, without those of IPython itself."""
    space, own = shell.user_ns, shell.user_ns_hidden
    there = sorted(name for name in found.reads if name in space)
    return {name: space[name] for name in there if name not in own or own[name] is not space[name]}


def _land(shell: Any, variables: dict[str, Any], left: dict[str, str]) -> None:
    shell.push(variables)
    for name, why in left.items():
        log.warning("%s stays in the worker because it cannot be pickled (%s)", name, why)


def in_background(future: TaskFuture) -> TaskFuture:
    """Returns the future; when it ends, a separate thread unpickles its variables, which may take long."""

    def fetch() -> None:
        with contextlib.suppress(Exception):  # the future's card shows the error
            future.result()

    speak = output_routing.bind(fetch)
    future.add_done_callback(lambda _: threading.Thread(target=speak, name="nblb-cell", daemon=True).start())
    return future


def watch(future: TaskFuture) -> Any:
    """Waits for the cell, shows its output meanwhile, and returns its value.

    The stop button frees the kernel as in every wait; the future is then in `_lb`.
    """
    printed = 0
    displayed: dict[str, Any] = {}
    try:
        with interruptible(future, future._connection):
            while not future.done():
                with contextlib.suppress(concurrent.futures.TimeoutError):
                    future.exception(LOOK_S)
                printed = _print_on(future, printed)
                _display_on(future, displayed)
        value = future.result()
    except TaskError as error:
        _show_remote_only(error)
        raise
    finally:
        _print_on(future, printed)
        _display_on(future, displayed)
    return value


def _print_on(future: TaskFuture, printed: int) -> int:
    """Prints what the task has written since, in the order of its two streams; returns the position behind it."""
    pieces, printed = future._port.pieces_after(future, printed)
    for name, text in pieces:
        stream = getattr(sys, name)
        stream.write(text)
        stream.flush()
    return printed


def _display_on(future: TaskFuture, displayed: dict[str, Any]) -> None:
    """Shows new displays of the task in the notebook's cell; an updated display replaces its old form."""
    from IPython.display import publish_display_data

    for number, picture in enumerate(list(future._port.live_state(future).pictures)):
        name = f"nblb-{future.task_id}-{picture.display_id or number}"
        if displayed.get(name) is not picture:
            update = name in displayed
            displayed[name] = picture
            transient = {"display_id": name}
            publish_display_data(dict(picture.data), dict(picture.metadata), transient=transient, update=update)


def _show_remote_only(error: TaskError) -> None:
    """Makes IPython show the worker's traceback only, in its colours, without the frames of the wait."""

    def lines() -> list[str]:
        here = shell()
        remote = tracebacks.remote(error, here) if isinstance(error, TaskFailed) and here is not None else str(error)
        return remote.splitlines()

    error._render_traceback_ = lines  # type: ignore[attr-defined]
