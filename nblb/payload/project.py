"""The modules of the user's own project, and the test whether a module or object belongs to it."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import types
from typing import Any

IMPORT_SYSTEM = frozenset({"__builtins__", "__cached__", "__loader__", "__spec__"})  # members that Python adds


def is_project_file(path: str) -> bool:
    """Return True if a module's file is the user's own source, not one that an installer has put there.

    Parameters
    ----------
    path
        The `__file__` of a module.

    Returns
    -------
    bool
        True for a .py file outside the standard library and every site-packages folder, and so for an editable
        installation, too.

    Examples
    --------
    >>> is_project_file(os.__file__)
    False
    """
    if not path.endswith(".py"):
        return False
    path = os.path.abspath(path)  # noqa: PTH100  # a hot path: runs at each import in a worker
    if path.startswith(_installed()):
        return False
    return not ("site-packages" in path or "dist-packages" in path or path.startswith(_NBLB))


@functools.cache
def _installed() -> tuple[str, ...]:
    folders = {os.path.dirname(os.__file__)}  # noqa: PTH120
    try:
        folders |= {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    except (AttributeError, KeyError):
        pass  # 3.13.0 lacks abi_thread where the prefix has changed; the caller also looks for "site-packages"
    return tuple(folder + os.sep for folder in folders)


_NBLB = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120


class ProjectModules:
    """The loaded modules that travel by value, as they may be edited while the cluster runs: `name in project_modules`.

    These are the modules loaded from source files that no installer has put in place.
    """

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}  # by file name

    def __contains__(self, name: str) -> bool:
        module = sys.modules.get(name)
        return module is not None and self.owns(module)

    def owns(self, module: types.ModuleType) -> bool:
        """Return True if this module, even one replaced in sys.modules, belongs to the project."""
        path = getattr(module, "__file__", None)
        if type(module) is not types.ModuleType or module.__name__ == "__main__":
            return False
        if path is None:  # a folder without __init__.py is a package too
            path = next((f"{folder}/__init__.py" for folder in getattr(module, "__path__", ())), None)
        if type(path) is not str:
            return False
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = is_project_file(path)
        return known

    def of_globals(self, names: dict[str, Any]) -> types.ModuleType | None:
        """Return the module of the project that has these globals of a function."""
        name = names.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        return module if module is not None and vars(module) is names and self.owns(module) else None


project_modules = ProjectModules()


def goes_by_name(thing: Any) -> bool:
    """Return True if a function or class is pickled as a name, which the loading process imports."""
    name, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if not isinstance(name, str) or name == "__main__" or name in project_modules:
        return False
    found: Any = sys.modules.get(name)
    for step in path.split("."):
        found = getattr(found, step, None)
    return found is thing
