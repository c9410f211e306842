"""lb.inbox(): jobs and tasks that finished while no kernel of this notebook was connected.

The core records which notebook and cell submitted each job and task, when it ended, and when kernels of each notebook
were connected. Attaching to an entry computes nothing again: its results come from the core.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Container, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nblb.client import current, front_end
from nblb.client.futures.single_tasks import call_of
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.attach import attach
from nblb.client.submit.batch import attached
from nblb.client.submit.origin import notebook
from nblb.protocol.messages import CollectTask, ForgetJob

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.jobs.job import Job

MOST_TASKS = 200  # of single tasks

_taken: set[str] = set()  # ids that this process has attached to
_forgotten: set[str] = set()


@dataclass(frozen=True)
class Finished:
    """A job or a single task that ended while no kernel of its notebook was connected.

    Examples
    --------
    >>> lb.inbox()[0].state
    """

    kind: str  # "job" | "task"
    id: str
    name: str
    notebook: str
    cell: str
    state: str  # "done" | "failed" | "cancelled"
    items: int
    failed: int
    ended_at: float  # wall clock
    record: str = ""  # the submission that a task was part of …
    item: int = 0  # … and its place in there
    items_of_record: int = 1
    call: str = ""  # "fit(100)"; of a job its first call
    ago_s: float = 0.0  # how long ago it had ended by the core's clock …
    told_at: float = field(default_factory=time.monotonic)  # … at this moment

    @property
    def words(self) -> str:
        """A one-line description."""
        failed = f", {self.failed:,} failed" if self.failed and self.items > 1 else ""
        size = f"{self.items:,} tasks{failed}, " if self.kind == "job" else ""
        cell = f"cell [{self.cell}]" if self.cell.isdecimal() else f"cell {self.cell[:8]}" if self.cell else "no cell"
        name = f"{self.name} of {self.call}" if self.kind == "job" and self.call else self.call or self.name
        return f"{self.kind} {name}: {size}{self.state} {_ago(self.ago_s + time.monotonic() - self.told_at)}, {cell}"


class Inbox(Sequence[Finished]):
    """The list that `lb.inbox()` returns; `attach(i)` returns one entry as a job or future, `recover()` all of them.

    Examples
    --------
    >>> lb.inbox()[0].name
    """

    def __init__(self, cluster: Cluster, entries: Sequence[Finished]) -> None:
        self._cluster = cluster
        self._entries = list(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, at: Any) -> Any:
        return self._entries[at]

    def __iter__(self) -> Iterator[Finished]:
        return iter(self._entries)

    def attach(self, which: int | str) -> Job | TaskFuture:
        """Attach to the job or task of an entry.

        Parameters
        ----------
        which
            Its number in the list, or its name.

        Returns
        -------
        Job or TaskFuture
            The job, or the future of the single task, with its results.

        Raises
        ------
        LookupError
            The inbox has no such entry.

        Examples
        --------
        >>> lb.inbox().attach("sweep").results()
        """
        entry = self._entry(which)
        _taken.add(entry.id)
        if entry.kind == "job":
            return attach(self._cluster, entry.id)
        futures = attached(self._cluster.connection, entry.record, entry.items_of_record, entry.name)
        future = futures[entry.item]
        future._port.recall(future)
        return future

    def _entry(self, which: int | str) -> Finished:
        if not isinstance(which, str):
            return self._entries[which]
        for entry in self._entries:
            if which in (entry.name, entry.id):
                return entry
        raise LookupError(f"the inbox has no {which!r}; it has {', '.join(e.name for e in self._entries)}")

    def forget(self, which: int | str) -> None:
        """Drop an entry and its results at the core.

        Parameters
        ----------
        which
            Its number in the list, or its name.

        Raises
        ------
        LookupError
            The inbox has no such entry.

        Examples
        --------
        >>> lb.inbox().forget(0)
        """
        entry, connection = self._entry(which), self._cluster.connection
        _forgotten.add(entry.id)
        if entry.kind == "job":
            connection.carried_out(ForgetJob(request=connection.request(), job=entry.id))
        elif entry.items_of_record == 1:  # else other tasks share the submission, and their results must stay
            connection.send(CollectTask(task=entry.id))

    def fate(self, entry: str) -> str:
        """Return what this process has done with an entry.

        Parameters
        ----------
        entry
            Its id.

        Returns
        -------
        str
            "taken up" (attached to), "forgotten" (dropped), or "" for neither.

        Examples
        --------
        >>> box.fate(box[0].id)
        """
        return "forgotten" if entry in _forgotten else "taken up" if entry in _taken else ""

    @property
    def place(self) -> str:
        """The notebooks that the entries are of, as text."""
        return " and ".join(sorted({entry.notebook for entry in self._entries if entry.notebook})) or notebook()

    def recover(self, names: MutableMapping[str, Any] | None = None) -> dict[str, Job | TaskFuture]:
        """Attach to all entries, and bind each to a variable named after it.

        Existing variables are not overwritten, and no variable has the name of a function: the result of a task `fit`
        is `fit_result`.

        Parameters
        ----------
        names
            The mapping that receives the variables; None means the notebook's own, if there is a notebook.

        Returns
        -------
        dict
            The jobs and futures, by variable name.

        Examples
        --------
        >>> lb.inbox().recover()
        """
        names = _variables() if names is None else names
        found: dict[str, Job | TaskFuture] = {}
        for at, entry in enumerate(self._entries):
            if entry.id not in _forgotten:
                thing = self.attach(at)
                found[variable_of(thing, {*found, *(names or ())})] = thing
        if names is not None:
            names.update(found)
        return found

    def __repr__(self) -> str:
        if not self._entries:
            return "<Inbox: nothing finished while this notebook was away>"
        lines = [f"[{at}] {entry.words}" for at, entry in enumerate(self._entries)]
        places = {entry.notebook for entry in self._entries}
        head = f"finished while {' and '.join(sorted(filter(None, places))) or 'nobody'} was away:"
        return "\n".join([head, *lines, "inbox.attach(i) takes one up, inbox.recover() all, inbox.forget(i) drops one"])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return front_end.bundle("inbox", self)


def variable(name: str, taken: Container[str] | Mapping[str, Any], thing: Any = None) -> str:
    """A variable name made from the name of a job or task; it is numbered if the name is taken by another object."""
    base = re.sub(r"\W", "_", name) if not name[:1].isdecimal() else f"_{name}"
    found, number = base, 2
    while found in taken and not (isinstance(taken, Mapping) and taken[found] is thing):
        found, number = f"{base}_{number}", number + 1
    return found


def variable_of(thing: Job | TaskFuture, taken: Container[str] | Mapping[str, Any]) -> str:
    """A variable name for a job or a task; never that of its function, which a cell defines again."""
    is_job = hasattr(thing, "retry_failed")
    function = getattr(thing, "_task_name", thing.name)
    name = thing.name if thing.name != function else f"{thing.name}_{'job' if is_job else 'result'}"
    return variable(name, taken, thing)


def _ago(seconds: float) -> str:
    """'just now', '3 minutes ago', '2 days ago'."""
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {word}{'s' * (number > 1)} ago"
    return "just now" if seconds < 10 else f"{seconds:.0f} s ago"


def _variables() -> MutableMapping[str, Any] | None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell.user_ns if shell is not None else None


def inbox(everywhere: bool = False) -> Inbox:
    """List the jobs and tasks that finished while no kernel of this notebook was connected.

    Parameters
    ----------
    everywhere
        True lists those of all your notebooks and programs, not only of this notebook.

    Returns
    -------
    Inbox
        A list that displays as a card; `recover()` binds all its entries to variables.

    Raises
    ------
    LoadBalancerUnreachable
        The core does not answer.

    Examples
    --------
    >>> lb.inbox().recover()
    """
    cluster = current.get()
    connection, user, here = cluster.connection, cluster.user, notebook()
    present: dict[str, list[list[float]]] = connection.ask("presence")
    jobs = [_of_job(row) for row in connection.ask("jobs", {"user": user}) if row["state"] != "running"]
    about = {"user": user, "single": True, "ended": True, "limit": MOST_TASKS, "latest": True}
    tasks = [task for row in connection.ask("tasks", about)["rows"] for task in _of_slice(row)]
    found = []
    for entry in [*jobs, *tasks]:
        known = entry.id in _taken or entry.id in _forgotten
        if known or entry.id in connection.jobs or entry.record in connection.owners:
            continue  # this process is attached to it already
        if (everywhere or entry.notebook == here) and not _somebody_was_there(entry, present):
            found.append(entry)
    return Inbox(cluster, sorted(found, key=lambda entry: -entry.ended_at))


def _somebody_was_there(entry: Finished, present: dict[str, list[list[float]]]) -> bool:
    return any(begin <= entry.ended_at <= end for begin, end in present.get(entry.notebook, ()))


def _of_job(row: dict[str, Any]) -> Finished:
    path, _, cell = row["origin"].partition("#")
    failed = row["counts"].get("FAILED", 0) + row["counts"].get("LOST", 0)
    return Finished(
        "job", row["job"], row["name"], path, cell, row["state"], row["items"], failed, row.get("ended_at") or 0.0,
        call=f"{row['task_name']}({row['arguments']})" if row.get("arguments") else "",
        ago_s=row.get("ended_ago_s") or 0.0,
    )  # fmt: skip


def _of_slice(row: dict[str, Any]) -> list[Finished]:
    """One entry for each task of a slice, which ended together."""
    path, _, cell = row["origin"].partition("#")
    failed = row["state"] in ("FAILED", "LOST")
    state = "failed" if failed else str(row["state"]).lower()
    task, whole = row["task"], row["of"]
    return [
        Finished(
            "task",
            f"{task}.{item}" if whole > 1 else task,
            row["name"],
            path,
            cell,
            state,
            1,
            int(failed),
            row["ended_at"],
            task,
            item,
            whole,
            call_of(row, item),
            row.get("ended_ago_s") or 0.0,
        )
        for item in range(row["first"], row["first"] + row["items"])
    ]
