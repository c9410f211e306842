"""Listing single tasks, and finding one by its id, the end of its id, or its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from nblb.client.rows import Row, frozen
from nblb.client.submit.batch import attached
from nblb.errors import UnknownTask

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.futures.task_future import TaskFuture

MOST = 1000  # calls in a list
ENDING = 6  # shortest end of an id to search for
Ask: TypeAlias = Callable[[str, dict[str, Any]], Any]


@frozen
class TaskRow(Row):
    """A single task as it was when the core was asked; `cluster.attach(row.task)` gives its future.

    Attributes
    ----------
    task, name, user, priority
        Its id, the name of its function, its user and its priority.
    call
        The call in short, such as "fit(100)"; the name alone if it was not submitted by a notebook.
    state
        The name of its TaskState.
    progress
        0 to 100, as the task reports it.
    note
        The text of its last progress report, or the reason why it waits.
    record, item, of
        The submission that contains it, its place in there, and the number of calls in it.
    job
        The id of its job; "" for a single task.
    worker, host, attempt
        The worker and computer that run it, and the number of the attempt.
    submitted_at
        The time at which the core accepted it, in seconds as time.time().
    started_s, duration_s, ended_ago_s
        Seconds since it started, of its run, and since its end; 0 where it has not come so far.
    ended_at
        The time at which it ended, in seconds as time.time(); 0 until then.
    kept
        True if it was stopped early, so that its result is what it last emitted.
    origin
        The notebook and cell that submitted it, as "lab.ipynb#7".
    function
        The hash of its function as it was sent.
    failure
        A dict with "kind", "message" and "where" if it failed, else None.

    Examples
    --------
    >>> [row.task for row in cluster.tasks() if row.state == "QUEUED"]
    """

    task: str = ""
    name: str = ""
    call: str = ""
    user: str = ""
    priority: float = 0.0
    state: str = ""
    progress: float = 0.0
    note: str = ""
    record: str = ""
    item: int = 0
    of: int = 1
    job: str = ""
    worker: str = ""
    host: str = ""
    attempt: int = 0
    submitted_at: float = 0.0
    started_s: float = 0.0
    duration_s: float = 0.0
    ended_ago_s: float = 0.0
    ended_at: float = 0.0
    kept: bool = False
    origin: str = ""
    function: str = ""
    failure: dict[str, str] | None = None

    _SHOWN = ("call", "state", "task", "user", "priority")


class TaskList(list[TaskRow]):
    """Single tasks that have not ended, the oldest first.

    Examples
    --------
    >>> lb.tasks()[0].task
    """

    def __repr__(self) -> str:
        if not self:
            return "<no single tasks wait or run>"
        return "\n".join(f"{row.call} {row.task}: {row.state}, priority {row.priority:g} ({row.user})" for row in self)


def listed(ask: Ask, user: str | None = None, name: str | None = None, ending: str = "") -> list[TaskRow]:
    """The single tasks that have not ended; `ask` sends a query (see broker/queries.py) to the core."""
    about = {"single": True, "open": True, "user": user, "name": name, "ending": ending or None, "limit": MOST}
    told = ask("tasks", {key: value for key, value in about.items() if value is not None}) or {}
    return [row for slice_ in told.get("rows", ()) for row in _calls(slice_)][:MOST]


def _calls(row: Mapping[str, Any]) -> Iterable[TaskRow]:
    """One row for each call of a slice: calls that are submitted together share a submission."""
    told = {key: value for key, value in row.items() if key != "calls"}
    for item in range(row["first"], row["first"] + row["items"]):
        task = f"{row['task']}.{item}" if row["of"] > 1 else row["task"]
        yield TaskRow({**told, "task": task, "record": row["task"], "item": item, "call": call_of(row, item)})


def call_of(row: Mapping[str, Any], item: int) -> str:
    """The call of an item of the core's row of a slice, such as "fit(100)"; its name if its arguments are unknown."""
    calls, at = row.get("calls") or (), item - row["first"]
    return f"{row['name']}({calls[at]})" if at < len(calls) else str(row["name"])


def found(ask: Ask, wanted: str, user: str | None = None) -> list[TaskRow]:
    """The tasks with this id, end of an id, or name; a name may match several.

    Raises
    ------
    UnknownTask
        No task matches, or the end of an id matches several.
    """
    record, _, item = wanted.rpartition(".")
    whole, number = (record, int(item)) if record and item.isdecimal() else (wanted, None)
    if len(whole) >= ENDING and whole.isalnum():
        rows = [row for row in listed(ask, None, None, whole) if number in (None, row["item"])]
        records = {row["record"] for row in rows}
        if len(records) > 1:
            raise UnknownTask(f"{len(records)} task ids end with {wanted!r}; give more of the id")
        if rows:
            return rows
    rows = listed(ask, user, wanted)
    if rows:
        return rows
    known = sorted({row["name"] for row in listed(ask, user)})
    there = f"the names of waiting and running tasks are {', '.join(known[:20])}" if known else "none waits or runs"
    raise UnknownTask(f"no single task has the id, the end of an id, or the name {wanted!r}; {there}")


def attach(cluster: Cluster, wanted: str) -> TaskFuture:
    """The future of a single task; if several have this name, of the latest."""
    row = found(cluster.connection.ask, wanted, cluster.user)[-1]
    futures = attached(cluster.connection, row["record"], row["of"], row["name"])
    return futures[int(row["item"])]
