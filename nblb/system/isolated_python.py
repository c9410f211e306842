"""Starts nblb's own processes without the caller's folder, its PYTHON* variables and its startup files.

A file `random.py` beside a notebook, a PYTHONPATH, a `usercustomize` that prints: none of them may prevent the start
of a cluster. A process of nblb finds modules in the standard library first, then in the folders of nblb and its
dependencies. The caller's own path and variables travel in TASKS, only for the workers, which set them up after the
fork (`set_up_for_tasks`), in the caller's order.

As a script, this module is the first code of such a process, before nblb can be imported, so until then it uses only
`sys` and `os`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

TASKS = "NBLB_TASKS"  # JSON with the path and variables for tasks: {"path": [...], "variables": {...}}
PACKAGES = ("site-packages", "dist-packages")
DEPENDENCIES = (
    "cloudpickle",
    "msgspec",
    "zmq",
    "platformdirs",
    "psutil",
    "ipywidgets",
    "anywidget",
    "panel",
    "prometheus_client",
)


def command(module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line of a process that calls `module.main(arguments)`.

    Parameters
    ----------
    module
        The full name of a module of nblb, or "nblb" for the command line.
    arguments
        The arguments of its `main`.

    Returns
    -------
    list of str
        The interpreter, this file and its arguments.
    """
    return [sys.executable, "-s", "-u", os.path.abspath(__file__), os.pathsep.join(own_path()), module, *arguments]  # noqa: PTH100


def environment() -> dict[str, str]:
    """Return the variables of such a process: this one's, except those that change the start of an interpreter."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") or _is_harmless(name)}


def for_tasks() -> str:
    """Return the value of TASKS for this process: its module path and its PYTHON* variables."""
    import json

    told = os.environ.get(TASKS)  # set by the process that started this one
    if told is not None:
        return told
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # the current folder has been removed
        here = os.path.expanduser("~")  # noqa: PTH111
    whole = [(entry, os.path.join(here, entry).rstrip(os.sep)) for entry in sys.path]  # noqa: PTH118
    path = [there if os.path.isdir(there) else entry for entry, there in whole]  # noqa: PTH112
    variables = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    return json.dumps({"path": path, "variables": variables})


def set_up_for_tasks(told: str) -> None:
    """Set, in a worker, the path and variables of the process that started the cluster, and keep nblb's own folders."""
    import json

    tasks = json.loads(told)
    path = [*tasks["path"], *(entry for entry in sys.path if entry not in tasks["path"])]
    sys.path[:] = [entry for entry in path if entry != os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    os.environ.update(tasks["variables"])


def shadowing() -> str:
    """Return a sentence about a file loaded in place of a module of the standard library; "" if there is none."""
    library = os.path.dirname(os.path.abspath(os.__file__))  # noqa: PTH100, PTH120
    for name in sorted(getattr(sys, "stdlib_module_names", ())):
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str) and not os.path.abspath(file).startswith((library, sys.base_exec_prefix)):  # noqa: PTH100
            return (
                f"{file} was loaded in place of the module {name!r} of the standard library, which nblb needs: rename "
                "that file, and start this program or kernel again."
            )
    return ""


def own_path() -> list[str]:
    """Return the folders from which this process imports nblb and its dependencies; the first is nblb's."""
    from importlib.util import find_spec

    found = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]  # noqa: PTH100, PTH120
    for name in DEPENDENCIES:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            continue
        folders = (spec.submodule_search_locations or ()) if spec is not None else ()
        found += [os.path.dirname(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100, PTH120
    found += [os.path.abspath(entry) for entry in sys.path if os.path.basename(entry) in PACKAGES]  # noqa: PTH100, PTH119
    return [folder for folder in dict.fromkeys(found) if os.pathsep not in folder]


def _is_harmless(name: str) -> bool:
    """Return True for a variable that only sets hashing, file encoding or bytecode; a wrong one would be fatal."""
    value = os.environ[name]
    match name:
        case "PYTHONHASHSEED":
            return value == "random" or (value.isdecimal() and int(value) < 1 << 32)
        case "PYTHONUTF8":
            return value in ("0", "1")
        case "PYTHONHOME":
            return os.path.realpath(value.split(os.pathsep)[0]) == os.path.realpath(sys.base_prefix)
        case "PYTHONDONTWRITEBYTECODE" | "PYTHONPYCACHEPREFIX":
            return True
    return False


def _start(path: str, module: str, arguments: Sequence[str]) -> object:
    """Run as the first code of a process: put nblb's folder right after the standard library, the others last."""
    own = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    kept = [entry for entry in sys.path if entry and os.path.abspath(entry) != own]  # noqa: PTH100
    home, *others = path.split(os.pathsep)
    at = next((n for n, entry in enumerate(kept) if os.path.basename(entry) in PACKAGES), len(kept))  # noqa: PTH119
    if home not in kept:
        kept.insert(at, home)
    sys.path[:] = kept + [entry for entry in others if entry not in kept]
    from importlib import import_module

    return import_module("nblb.cli" if module == "nblb" else module).main(list(arguments))


if __name__ == "__main__":
    sys.exit(_start(sys.argv[1], sys.argv[2], sys.argv[3:]))  # type: ignore[arg-type]
