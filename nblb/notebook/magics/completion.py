"""Tab completion after a magic: its options, parameter files, and the names of jobs, tasks and hubs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.job import Job
from nblb.launch import logs
from nblb.notebook.kernel.environment import shell as _shell
from nblb.notebook.magics import magics

NAMED = 100  # jobs and tasks that are offered
ITEMS_NAMED = 10  # of each job
_magic = re.compile(r"\s*(?P<sign>%{0,2})(?P<name>lb\w*)\s")


def install(ipython: Any) -> None:
    """Registers the completer of nblb's magics with IPython, which then adds no Python names."""
    found = getattr(ipython.Completer, "custom_matchers", None)
    if found is not None:
        remove(ipython)
        found.append(_matcher())
        return
    commands = [command for name in magics.names() for command in (f"%{name}", name)]  # IPython before 8.6
    for command in [*commands, "%%lb"]:
        ipython.set_hook(
            "complete_command", lambda _, event: _offers(ipython, event.line, event.symbol), str_key=command
        )


def remove(ipython: Any) -> None:
    """Undoes `install`."""
    matchers = getattr(ipython.Completer, "custom_matchers", [])
    matchers[:] = [matcher for matcher in matchers if getattr(matcher, "__module__", "") != __name__]


def _matcher() -> Callable[[Any], Any]:
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()
    def nblb_matcher(context: Any) -> Any:
        line = context.line_with_cursor[: context.cursor_position]
        if not magic_of(line):
            return {"completions": [], "suppress": False}
        symbol = "" if line[-1:].isspace() else line.split()[-1]
        offers = _offers(_shell(), line, symbol)
        begin = symbol.removesuffix(context.token)  # typed already, and not part of the replaced token
        completions = [SimpleCompletion(text=offer.removeprefix(begin), type="magic") for offer in offers]
        return {"completions": completions, "suppress": True, "ordered": True}

    matcher: Callable[[Any], Any] = nblb_matcher
    return matcher


def magic_of(line: str) -> str:
    """The nblb magic whose arguments are at the end of this line; "" if there is none."""
    found = _magic.match(line)
    if found is None:
        return ""
    name = found["name"]
    return name if (name == "lb" if found["sign"] == "%%" else name in magics.names()) else ""


def _offers(shell: Any, line: str, symbol: str) -> list[str]:
    name = magic_of(line)
    offers: list[str] = []
    for kind in ARGUMENTS.get(name, ()):
        with contextlib.suppress(Exception):  # Tab must not show an error
            offers += kind(shell, symbol)
    return [offer for offer in [*offers, *options(name)] if offer.startswith(symbol)]


def options(name: str) -> list[str]:
    """The options of a magic, as its parser knows them."""
    parser = getattr(getattr(magics.LbMagics, name, None), "parser", None)
    actions = parser._actions if parser is not None else ()
    return [*(option for action in actions for option in action.option_strings if len(option) > 2), "--help"]


def parameter_files(_shell: Any, start: str) -> list[str]:
    """Folders and .json files whose path begins with `start`."""
    folder, _, begin = start.rpartition("/")
    paths = sorted(Path(folder or ("/" if start.startswith("/") else ".")).expanduser().iterdir())
    fit = [path for path in paths if path.name.startswith(begin) and (path.is_dir() or path.suffix == ".json")]
    before = start.removesuffix(begin)
    return [f"{before}{path.name}{'/' if path.is_dir() else ''}" for path in fit]


def job_names(_shell: Any, _start: str) -> Iterable[str]:
    """The jobs of the connected cluster."""
    return [str(row["name"]) for row in magics.current().jobs()[:NAMED]]


def task_names(shell: Any, _start: str) -> Iterable[str]:
    """Variables with futures, failed items of jobs, and ids of tasks: failed ones before running ones."""
    held = [name for name, value in shell.user_ns.items() if isinstance(value, TaskFuture) and not name.startswith("_")]
    held += [item for name, value in shell.user_ns.items() if not name.startswith("_") for item in _items(name, value)]
    ask = magics.current().connection.ask
    rows = [row for state in ("FAILED", "RUNNING") for row in ask("tasks", {"state": state, "limit": NAMED})["rows"]]
    return [*held, *(f"{row['task']}.{row['first']}" if row["first"] else str(row["task"]) for row in rows)]


def _items(name: str, value: Any) -> list[str]:
    """'job[3]' for the first failed items of a job in a variable, else for its first item."""
    if not isinstance(value, Job) or not len(value):
        return []
    bad = value._ledger.of_state("FAILED", "LOST")[:ITEMS_NAMED]
    return [f"{name}[{item}]" for item in bad or [0]]


def process_names(_shell: Any, _start: str) -> Iterable[str]:
    """The processes of the cluster that have a log here, including hubs."""
    return list(logs.files(magics.current().parameters))


ARGUMENTS: dict[str, tuple[Callable[[Any, str], Iterable[str]], ...]] = {
    "lb_start": (parameter_files,),
    "lb_stop": (parameter_files,),
    "lb_status": (parameter_files,),
    "lb_attach": (job_names,),
    "lb_logs": (process_names, task_names),
    "lb_debug": (task_names,),
}
