"""Lookup of a task by a variable, `job[17]`, `sweep[17]`, an id, or the end of an id as reprs show it."""

from __future__ import annotations

import ast
import re
from typing import Any

from nblb.client.futures.task_future import TaskFuture
from nblb.client.submit.batch import attached
from nblb.errors import UnknownTask

LOOKED_AT = 1000  # tasks whose ids are compared, latest first
ENDING = 6  # the shortest end of an id that is looked for
_item_of = re.compile(r"(?P<job>.+)\[(?P<item>-?\d+)\]")


def future(shell: Any, cluster: Any, spec: str) -> TaskFuture | None:
    """The future in a variable or of an item of a job; runs no user code."""
    found = _value(spec, shell.user_ns)
    if isinstance(found, TaskFuture):
        return found
    item = _item_of.fullmatch(spec)
    if item is None:
        return None
    job = cluster.attach(item["job"])
    if isinstance(job, TaskFuture):
        raise UnknownTask(f"{item['job']!r} is a single task, which has no items")
    try:
        made: TaskFuture = job[int(item["item"])]
    except IndexError as problem:
        raise UnknownTask(str(problem)) from None
    return made


def _value(spec: str, space: dict[str, Any]) -> Any:
    """The value of `f`, `job[3]` or `fs[-1]` in the notebook; None if there is none."""
    try:
        node: Any = ast.parse(spec, mode="eval").body
        if isinstance(node, ast.Name):
            return space.get(node.id)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in space:
            return space[node.value.id][ast.literal_eval(node.slice)]
    except (SyntaxError, ValueError, LookupError, TypeError):
        pass
    return None


def taken_up(shell: Any, cluster: Any, spec: str) -> TaskFuture:
    """The future of any task that `place` finds, also of a task that another kernel has submitted."""
    known = future(shell, cluster, spec)
    if known is not None:
        return known
    connection, where = cluster.connection, place(shell, cluster, spec)
    about = connection.ask("task", where)
    if about["job"]:
        job = cluster.attach(about["job"])
        wanted = {where["task"], f"{where['task']}.{where['first']}"}
        found: TaskFuture = next(job[item] for item in range(len(job)) if job._task_id(item) in wanted)
        return found
    futures = attached(connection, where["task"], about["of"], about["name"])
    made = futures[int(where["first"])]
    made._port.recall(made)
    return made


def place(shell: Any, cluster: Any, spec: str) -> dict[str, Any]:
    """The task in the form that queries to the core use: {"task", "first"}."""
    known = future(shell, cluster, spec)
    task_id = known.task_id if known is not None else spec
    record, _, item = task_id.rpartition(".")
    about = {"task": record, "first": int(item)} if record and item.isdigit() else {"task": task_id, "first": 0}
    if known is not None or cluster.connection.ask("task", about) is not None:
        return about
    rows = cluster.connection.ask("tasks", {"offset": 0, "limit": LOOKED_AT})["rows"]
    fits = [row for row in rows if len(spec) >= ENDING and str(row["task"]).endswith(str(about["task"]))]
    if len(fits) == 1:
        return {"task": fits[0]["task"], "first": about["first"]}
    raise UnknownTask(
        f"no task {spec!r}: name a variable that holds its future, JOB[ITEM], or its id or the end of it"
        if not fits
        else f"{len(fits)} tasks end with {spec!r}; take more of the id"
    )
