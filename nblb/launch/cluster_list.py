"""Lists the clusters of this account: those that run on this computer, that have ended, and that it has joined."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from nblb import parameters as parameters_module
from nblb.access import connection_file
from nblb.errors import NblbError
from nblb.launch import one_shot
from nblb.launch.roles import SETTINGS
from nblb.system.core_file import CoreFile, core_files, read_core_file
from nblb.system.state_mark import is_marked
from nblb.transport.dialing import best_address

if TYPE_CHECKING:
    from nblb.parameters import Parameters

ANSWER_S = 2.0  # in which a core must answer
AT_ONCE = 8  # cores that are asked at a time
RUNS, SILENT, DEAD, STOPPED, AWAY = "running", "silent", "dead", "stopped", "away"
ORDER = (RUNS, SILENT, AWAY, DEAD, STOPPED)


def listed(parameters: Parameters) -> list[dict[str, Any]]:
    """Return a row for each cluster that this account knows of, the running ones first.

    Parameters
    ----------
    parameters
        Those of any cluster: others are looked for where its state folder is, and where state folders are by default.

    Returns
    -------
    list of dict
        name, state ("running", "silent": it lives and does not answer, "away": joined and not reached, "dead": it has
        not ended in good order, "stopped"), host, pid, since (wall clock), hubs, workers, running, queued, joined,
        where (state folder or connection file), note.

    Examples
    --------
    >>> [row["name"] for row in listed(parameters.load()) if row["state"] == "running"]
    """
    questions: list[Callable[[], dict[str, Any]]] = []
    places = set[str]()
    for core in _cores(parameters):
        place = str(core.about.get("state_dir") or core.path.parent)
        if place not in places:
            places.add(place)
            questions.append(lambda core=core: _row_of_core(core))  # type: ignore[misc]
    for folder in _state_folders(parameters):
        if str(folder) not in places:
            places.add(str(folder))
            questions.append(lambda folder=folder: _row(folder.name, STOPPED, where=str(folder)))  # type: ignore[misc]
    for name, file in connection_file.known().items():
        questions.append(lambda name=name, file=file: _row_of_joined(name, file))  # type: ignore[misc]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(lambda question: question(), questions))
    return sorted(rows, key=lambda row: (ORDER.index(row["state"]), row["name"], row["where"]))


def _cores(parameters: Parameters) -> Iterator[CoreFile]:
    """Yield what cores have written about themselves; of several with one state folder, the living one first."""
    usual = parameters_module.load(None)
    paths = [folder / "core.json" for folder in _folders_of_processes()]
    paths += [parameters.connection_file, *core_files(parameters), *core_files(usual)]
    found = [core for path in dict.fromkeys(paths) if (core := read_core_file(path)) is not None]
    yield from sorted(found, key=lambda core: bool(core.stale))


def _folders_of_processes() -> Iterator[Path]:
    """Yield the runtime folders of the cores that run as this account, wherever their state folders are."""
    for process in psutil.process_iter(["cmdline", "uids"]):
        words = process.info["cmdline"] or []
        uids = process.info["uids"]
        if uids is None or uids.real != os.getuid() or "core" not in words or "--parameters" not in words[:-1]:
            continue
        settings = Path(words[words.index("--parameters") + 1])
        if settings.name == SETTINGS:
            yield settings.parent


def _state_folders(parameters: Parameters) -> Iterator[Path]:
    """Yield the state folders that nblb has marked, beside this cluster's and where they are by default."""
    for parent in dict.fromkeys([parameters.state_dir.parent, parameters_module.load(None).state_dir.parent]):
        try:
            folders = sorted(path for path in parent.iterdir() if path.is_dir())
        except OSError:
            continue
        yield from (folder for folder in folders if is_marked(folder))


def _row(name: str, state: str, **about: Any) -> dict[str, Any]:
    empty = {"host": "", "pid": 0, "since": 0.0, "hubs": 0, "workers": 0, "running": 0, "queued": 0, "joined": False}
    return {"name": name, "state": state, **empty, "where": "", "note": "", **about}


def _row_of_core(core: CoreFile) -> dict[str, Any]:
    about = core.about
    known = {
        "host": str(about.get("host") or ""),
        "pid": core.pid,
        "since": float(about.get("started_at") or 0.0),
        "where": str(about.get("state_dir") or core.path.parent),
    }
    name = str(about.get("name") or core.path.parent.name)
    if core.stale:
        return _row(name, DEAD, **known, note=core.stale)
    if core.is_on_another_computer:
        return _row(name, AWAY, **known, note=f"it runs on {known['host']}; join it from here with 'nblb join'")
    try:
        status = one_shot.ask(best_address(core.addresses, "clients"), "status", timeout_s=ANSWER_S)
    except (NblbError, OSError, KeyError) as problem:
        return _row(name, SILENT, **known, note=str(problem))
    return _row(name, RUNS, **{**known, **_counted(status)})


def _row_of_joined(name: str, file: Path) -> dict[str, Any]:
    try:
        address, _ = one_shot.find(parameters_module.connected(file))
        status = one_shot.ask(address, "status", timeout_s=ANSWER_S)
    except (NblbError, OSError) as problem:
        return _row(name, AWAY, joined=True, where=str(file), note=str(problem))
    known = {"host": status.get("host", ""), "pid": status.get("pid", 0), "since": status.get("started_at", 0.0)}
    return _row(name, RUNS, joined=True, where=str(file), **known, **_counted(status))


def _counted(status: dict[str, Any]) -> dict[str, Any]:
    counted = {key: status.get(key, 0) for key in ("hubs", "workers", "running", "queued")}
    sentences = [(status.get(key) or {}).get("text", "") for key in ("adapts", "idle_end")]
    return {**counted, "note": "; ".join(filter(None, sentences))}


def since_text(row: dict[str, Any]) -> str:
    """Return when a cluster's core started, in local time; "" if that is not known."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(row["since"])) if row["since"] else ""
