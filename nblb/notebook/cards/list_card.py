"""Cards that list jobs: those of the core (`lb.jobs()`), and those that ended while no kernel ran (`lb.inbox()`).

A row has buttons: attach (the job becomes a variable, and its card appears in the row), cancel, and forget.
"""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

from nblb.client.jobs.inbox import variable_of
from nblb.notebook.cards import wording
from nblb.notebook.cards.card import Card, Look
from nblb.notebook.kernel.environment import Mode, shell
from nblb.protocol.messages import CancelTask, ForgetJob
from nblb.quantities import duration, size

if TYPE_CHECKING:
    from nblb.client.jobs.inbox import Finished, Inbox
    from nblb.client.rows import JobList
    from nblb.notebook.cards.widget import CardWidget

MOST_ROWS = 40
HASH = 8  # digits shown of a hash
BUSY_S, QUIET_S = 1.0, 3.0  # between two refreshes
OVERTAKEN = "lb.jobs() was shown again since; this is how it was at"


class ListCard(Card):
    """A card of rows with buttons."""

    title = ""

    def __init__(self, thing: Any, mode: Mode, embed: Callable[[Any], str]) -> None:
        self._embed = embed  # makes the card of a job or task live; returns the key by which a row embeds it
        self._beneath: dict[str, str] = {}  # row -> key of the card embedded in it
        super().__init__(thing, mode)

    @abstractmethod
    def rows(self, thing: Any) -> list[dict[str, Any]]:
        """Returns the rows: id, name, group, look, facts, can; with a bar also percent and text."""

    @abstractmethod
    def take(self, thing: Any, row: str) -> Any:
        """Returns the job or future of a row."""

    def described(self, thing: Any) -> dict[str, Any]:
        rows = self.rows(thing)
        for row in rows:
            row["card"] = self._beneath.get(row["id"], "")
        return {
            "title": self.title,
            "look": ("", ""),
            "state": "",
            "over": False,
            "can": {"rows": any(row["can"] for row in rows)},
            "notes": [f"and {len(rows) - MOST_ROWS:,} more"] if len(rows) > MOST_ROWS else [],
            "list": rows[:MOST_ROWS],
        }

    def look(self, thing: Any, _now: float) -> Look:
        return Look(self.described(thing))

    def act(self, thing: Any, click: str, value: Any) -> str:
        if click == "attach":
            return self._attach(self.take(thing, str(value)), str(value))
        return ""

    def _attach(self, found: Any, row: str) -> str:
        """Makes a variable of the job, and embeds its card in the row if the page can embed cards."""
        here = shell()
        space: MutableMapping[str, Any] = here.user_ns if here is not None else {}
        name = variable_of(found, space)
        space[name] = found
        if self.mode is Mode.LIVE:
            self._beneath[row] = self._embed(found)
            return f"{name} is a variable now"
        return f"{name} is a variable now: as the last line of a cell it shows its card"

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.cards.widget import ListWidget

        return ListWidget(**traits)


class JobsCard(ListCard):
    """The live list of the core's jobs. Only the latest one is live; showing a new one freezes the older one."""

    title = "jobs"
    _latest: ClassVar[JobsCard | None] = None

    def __init__(self, thing: JobList, mode: Mode, embed: Callable[[Any], str]) -> None:
        self._over = ""
        before, JobsCard._latest = JobsCard._latest, self
        super().__init__(thing, mode, embed)
        if before is not None:
            before._overtaken()

    def _overtaken(self) -> None:
        self._over = f"{OVERTAKEN} {time.strftime('%H:%M:%S')}"
        self.changed()

    def rows(self, thing: JobList) -> list[dict[str, Any]]:
        told = thing.latest() if not self._over else list(thing)
        users = {row["user"] for row in told}
        named = Counter(row["name"] for row in told)
        return [_job_row(row, thing.user, len(users) > 1, named[row["name"]] > 1) for row in sorted(told, key=_order)]

    def described(self, thing: JobList) -> dict[str, Any]:
        card = super().described(thing)
        going = sum(row["group"] == GOING_ON for row in card["list"])
        card["look"] = ("▶", f"{wording.number(going, 'job')} going on") if going else ("", "none is going on")
        card["subtitle"] = thing.place
        card["can"]["forget_all"] = not self._over and sum("forget" in row["can"] for row in card["list"]) > 1
        if not card["list"]:
            card["look"] = ("", "no jobs")
            card["notes"].append('task.map(items, job="name") makes one')
        if self._over:
            card.update(over=True, notes=[*card["notes"], self._over])
        return card

    def pace(self, _shown_s: float) -> float:
        going = any(row["group"] == GOING_ON for row in self._look.now["list"])
        return BUSY_S if going else QUIET_S

    def take(self, thing: JobList, row: str) -> Any:
        return thing.cluster.attach(row)

    def act(self, thing: JobList, click: str, value: Any) -> str:
        connection, row = thing.cluster.connection, str(value)
        if click == "cancel":
            connection.send(CancelTask(request=connection.request(), job=row))
            return "cancelling what has not ended"
        if click == "forget":
            connection.carried_out(ForgetJob(request=connection.request(), job=row))
            return "forgotten, with its results"
        if click == "forget_all":
            return self._forget_all(thing)
        return super().act(thing, click, value)

    def _forget_all(self, thing: JobList) -> str:
        """Drops the user's ended jobs, also those beyond the shown rows."""
        ended = [row for row in self.rows(thing) if "forget" in row["can"]]
        connection = thing.cluster.connection
        for row in ended:
            connection.send(ForgetJob(job=row["id"]))
        return f"{wording.number(len(ended), 'job')} forgotten, with all results"


class InboxCard(ListCard):
    """The list of tasks and jobs that ended while no kernel of the notebook ran."""

    title = "inbox"

    def rows(self, thing: Inbox) -> list[dict[str, Any]]:
        return [_inbox_row(entry, thing.fate(entry.id)) for entry in thing]

    def described(self, thing: Inbox) -> dict[str, Any]:
        card = super().described(thing)
        new = sum(not thing.fate(entry.id) for entry in thing)
        card["look"] = ("●", f"{new:,} ended while nobody was here") if new else ("", "nothing new")
        card["subtitle"] = _cell(thing.place)
        card["over"] = True  # nothing changes without a button press
        if new:
            card["notes"].append("Attach makes a variable of it; .recover() of all of them")
        return card

    def take(self, thing: Inbox, row: str) -> Any:
        return thing.attach(row)

    def act(self, thing: Inbox, click: str, value: Any) -> str:
        if click == "forget":
            thing.forget(str(value))
            return "forgotten, with its results"
        return super().act(thing, click, value)


GOING_ON, ENDED = "going on", "ended"


def _order(row: Mapping[str, Any]) -> tuple[bool, float]:
    """The sort key of a row: running jobs first, then the latest ended."""
    going = row["state"] == "running"
    return not going, -(row.get("created_at", 0.0) if going else row.get("ended_at", 0.0))


def _ended(row: Mapping[str, Any]) -> list[str]:
    """When an ended job ended, how long it took from its submission, and how long its results are kept."""
    if not row.get("ended_at"):
        return []
    kept_s = row.get("expires_in_s", 0.0)
    return [
        wording.moment(row["ended_at"]),
        f"after {duration(max(0.0, row['ended_at'] - row['created_at']))}",
        f"kept for {duration(kept_s)} more" if kept_s else "",
    ]


def _job_row(row: Mapping[str, Any], user: str, several_users: bool, twins: bool) -> dict[str, Any]:
    """The row of a job; `twins`: another job has its name, so that its code is shown."""
    counts, total, going = row["counts"], row["items"], row["state"] == "running"
    mine, failed = row["user"] == user, wording.failed(counts)
    task = row["task_name"] if row["task_name"] != row["name"] else ""
    if row.get("arguments"):
        task = _first(f"{row['task_name']}({row['arguments']})", total)
    facts = [row["user"] if several_users else "", task]
    facts += [_cell(row.get("origin", "")), f"code {row['code'][:HASH]}" if twins and row["code"] else ""]
    facts += [f"since {wording.moment(row['created_at'])}"] if going else _ended(row)
    facts += [size(row["stored_bytes"])] if row.get("stored_bytes") else []
    return {
        "id": str(row["job"]),
        "name": str(row["name"]),
        "group": GOING_ON if going else ENDED,
        "look": wording.JOB_LOOK.get(row["state"], ("?", row["state"])),
        "state": row["state"],
        "percent": wording.percent(100.0 * wording.ended(counts) / max(1, total), counts, total),
        "bad": max(1, round(100.0 * failed / max(1, total))) if failed else 0,  # of the bar, at its end
        "text": wording.progress_text(counts, total),
        "facts": [fact for fact in facts if fact],
        "can": ["attach", *(["cancel" if going else "forget"] if mine else [])],
    }


def _inbox_row(entry: Finished, fate: str) -> dict[str, Any]:
    look = wording.JOB_LOOK.get(entry.state, ("?", entry.state))
    tasks = "" if entry.kind == "task" else wording.number(entry.items, "task")
    failed = f"{entry.failed:,} failed" if entry.failed and entry.items > 1 else ""
    call = entry.call if entry.kind == "job" else ""  # a task's is its name
    facts = [_first(call, entry.items), _cell(f"{entry.notebook}#{entry.cell}"), wording.moment(entry.ended_at)]
    return {
        "id": entry.id,
        "name": entry.name if entry.kind == "job" else entry.call or entry.name,
        "group": fate or "new",
        "look": look,
        "state": entry.state,
        "text": ", ".join(filter(None, [tasks, failed])),
        "facts": [fact for fact in facts if fact],
        "can": [] if fate == "forgotten" else ["forget"] if fate else ["attach", "forget"],
    }


def _first(call: str, items: int) -> str:
    """'fit(0), …' for the first call of a job of several."""
    return f"{call}, …" if call and items > 1 else call


def _cell(origin: str) -> str:
    """'sweeps.ipynb [7]' for a path and a cell number; cell ids are left out."""
    path, _, cell = origin.partition("#")
    name = re.split(r"[/\\]", path)[-1]
    return f"{name} [{cell}]".strip() if cell.isdecimal() else name
