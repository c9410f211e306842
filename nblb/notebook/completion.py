"""What Tab offers after a magic: its options, parameter files, names of jobs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from nblb.notebook import magics

OPTIONS = {
    "lb_start": ("--workers", "--name", "--no-monitor"),
}
JOBS = 100


def install(ipython: Any) -> None:
    """Tells IPython whom to ask; it asks by the first word of the line, with and without its sign."""
    for name in magics.names():
        for command in (f"%{name}", name):
            ipython.set_hook("complete_command", _complete, str_key=command)


def _complete(_shell: Any, event: Any) -> list[str]:
    name = event.command.lstrip("%")
    offers = [*OPTIONS.get(name, ()), "--help"]
    if name in ("lb_start", "lb_stop", "lb_status"):
        offers += parameter_files(event.symbol)
    if name == "lb_attach":
        offers += job_names()
    return [offer for offer in offers if offer.startswith(event.symbol)]


def parameter_files(start: str) -> list[str]:
    """Folders and .json files that begin like this."""
    folder, _, begin = start.rpartition("/")
    offers = []
    with contextlib.suppress(OSError):
        paths = sorted(Path(folder or ("/" if start.startswith("/") else ".")).expanduser().iterdir())
        fit = [path for path in paths if path.name.startswith(begin) and (path.is_dir() or path.suffix == ".json")]
        before = start.removesuffix(begin)
        offers = [f"{before}{path.name}{'/' if path.is_dir() else ''}" for path in fit]
    return offers


def job_names() -> list[str]:
    """Names of the jobs of the connected cluster; nothing when there is none, for Tab must not start anything."""
    try:
        return [str(row["name"]) for row in magics.current().jobs()[:JOBS]]
    except Exception:  # Tab is no place for an error
        return []
