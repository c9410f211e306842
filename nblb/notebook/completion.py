"""What Tab offers after a magic: its options, parameter files, and the names of jobs, tasks and hubs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nblb.client.task_future import TaskFuture
from nblb.launch import logs
from nblb.notebook import magics

NAMED = 100  # jobs and tasks that are offered


def install(ipython: Any) -> None:
    """Tells IPython whom to ask; it asks by the first word of the line, with and without its sign."""
    commands = [command for name in magics.names() for command in (f"%{name}", name)]
    for command in [*commands, "%%lb"]:
        ipython.set_hook("complete_command", _complete, str_key=command)


def _complete(shell: Any, event: Any) -> list[str]:
    name = event.command.lstrip("%")
    offers = options(name)
    for kind in ARGUMENTS.get(name, ()):
        with contextlib.suppress(Exception):  # Tab is no place for an error, and must not start anything
            offers += kind(shell, event.symbol)
    return [offer for offer in offers if offer.startswith(event.symbol)]


def options(name: str) -> list[str]:
    """The options of a magic, as its parser knows them."""
    parser = getattr(getattr(magics.LbMagics, name, None), "parser", None)
    actions = parser._actions if parser is not None else ()
    return [*(option for action in actions for option in action.option_strings if len(option) > 2), "--help"]


def parameter_files(_shell: Any, start: str) -> list[str]:
    """Folders and .json files that begin like this."""
    folder, _, begin = start.rpartition("/")
    paths = sorted(Path(folder or ("/" if start.startswith("/") else ".")).expanduser().iterdir())
    fit = [path for path in paths if path.name.startswith(begin) and (path.is_dir() or path.suffix == ".json")]
    before = start.removesuffix(begin)
    return [f"{before}{path.name}{'/' if path.is_dir() else ''}" for path in fit]


def job_names(_shell: Any, _start: str) -> Iterable[str]:
    """The jobs of the connected cluster."""
    return [str(row["name"]) for row in magics.current().jobs()[:NAMED]]


def task_names(shell: Any, _start: str) -> Iterable[str]:
    """Variables that hold futures, and the ids of tasks: those that failed before those that run."""
    held = [name for name, value in shell.user_ns.items() if isinstance(value, TaskFuture) and not name.startswith("_")]
    ask = magics.current().connection.ask
    rows = [row for state in ("FAILED", "RUNNING") for row in ask("tasks", {"state": state, "limit": NAMED})["rows"]]
    return [*held, *(f"{row['task']}.{row['first']}" if row["first"] else str(row["task"]) for row in rows)]


def process_names(_shell: Any, _start: str) -> Iterable[str]:
    """The processes of the cluster that have a log here, hubs among them."""
    return list(logs.files(magics.current().parameters))


ARGUMENTS: dict[str, tuple[Callable[[Any, str], Iterable[str]], ...]] = {
    "lb_start": (parameter_files,),
    "lb_stop": (parameter_files,),
    "lb_status": (parameter_files,),
    "lb_attach": (job_names,),
    "lb_logs": (process_names, task_names),
    "lb_debug": (task_names,),
}
