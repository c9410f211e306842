"""lb.inbox(): what finished while no kernel of this notebook was there, ready to be variables again.

The core knows of each job and task which notebook and cell submitted it and when it ended, and of each notebook when
a kernel of it was connected. Nothing is computed again: what is taken up comes with the results that the core keeps.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Container, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nblb.client import front_end
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.attach import attach
from nblb.client.submit.batch import attached
from nblb.client.submit.origin import notebook
from nblb.protocol.messages import CollectTask, ForgetJob

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.jobs.job import Job

MOST_TASKS = 200  # single ones

_taken: set[str] = set()  # ids of what this process has taken up
_forgotten: set[str] = set()


@dataclass(frozen=True)
class Finished:
    """A job or a single task that ended while nobody was there.

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
    record: str = ""  # of a task: what it travelled in, as which item of how many
    item: int = 0
    items_of_record: int = 1
    ago_s: float = 0.0  # how long ago it ended, by the core's clock …
    told_at: float = field(default_factory=time.monotonic)  # … when it was asked

    @property
    def words(self) -> str:
        """In a few words."""
        failed = f", {self.failed:,} failed" if self.failed and self.items > 1 else ""
        size = f"{self.items:,} tasks{failed}, " if self.kind == "job" else ""
        cell = f"cell [{self.cell}]" if self.cell.isdecimal() else f"cell {self.cell[:8]}" if self.cell else "no cell"
        return (
            f"{self.kind} {self.name}: {size}{self.state} {_ago(self.ago_s + time.monotonic() - self.told_at)}, {cell}"
        )


class Inbox(Sequence[Finished]):
    """A list of what finished while nobody was there; `attach(i)` takes one up, `recover()` all of them.

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
        """Take up the job or task behind an entry.

        Parameters
        ----------
        which
            Its number in the list, or its name.

        Returns
        -------
        Job or TaskFuture
            With its results.

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
        elif entry.items_of_record == 1:  # else others have travelled with it, and their results must stay
            connection.say(CollectTask(task=entry.id))

    def fate(self, entry: str) -> str:
        """Tell what has become of an entry.

        Parameters
        ----------
        entry
            Its id.

        Returns
        -------
        str
            "" | "taken up" | "forgotten".

        Examples
        --------
        >>> box.fate(box[0].id)
        """
        return "forgotten" if entry in _forgotten else "taken up" if entry in _taken else ""

    @property
    def place(self) -> str:
        """The notebook, or the cluster, that the inbox tells of."""
        return " and ".join(sorted({entry.notebook for entry in self._entries if entry.notebook})) or notebook()

    def recover(self, names: MutableMapping[str, Any] | None = None) -> dict[str, Job | TaskFuture]:
        """Take up everything, as variables named like the jobs and tasks; those that exist are not overwritten.

        Parameters
        ----------
        names
            Where the variables go; without it among the notebook's, where there is a notebook.

        Returns
        -------
        dict
            The jobs and futures by the names of their variables.

        Examples
        --------
        >>> lb.inbox().recover()
        """
        names = _variables() if names is None else names
        found: dict[str, Job | TaskFuture] = {}
        for at, entry in enumerate(self._entries):
            if entry.id not in _forgotten:
                found[variable(entry.name, {*found, *(names or ())})] = self.attach(at)
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
    """A name for a variable like that of a job or task; one that exists, and is not `thing` itself, is left alone."""
    base = re.sub(r"\W", "_", name) if not name[:1].isdecimal() else f"_{name}"
    found, number = base, 2
    while found in taken and not (isinstance(taken, Mapping) and taken[found] is thing):
        found, number = f"{base}_{number}", number + 1
    return found


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
    """The jobs and tasks that finished while no kernel of this notebook was there.

    Parameters
    ----------
    everywhere
        True for those of all your notebooks and programs, not of this notebook only.

    Returns
    -------
    Inbox
        A list, which shows itself as a card; `recover()` makes all of it variables again.

    Raises
    ------
    LoadBalancerUnreachable
        The core does not answer.

    Examples
    --------
    >>> lb.inbox().recover()
    """
    from nblb.client import current

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
            continue  # it has been taken up already
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
        ago_s=row.get("ended_ago_s") or 0.0,
    )  # fmt: skip


def _of_slice(row: dict[str, Any]) -> list[Finished]:
    """The tasks that ended together."""
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
            row.get("ended_ago_s") or 0.0,
        )
        for item in range(row["first"], row["first"] + row["items"])
    ]
