"""Finds the members of the project's modules that a function needs; only those travel with it.

A member is needed if travelling code names it: as a global of a function, as an attribute of a module that a function
refers to, or in any other way that could mean it (a string, an annotation, an attribute of another object). The first
two make it *required*: if it cannot be pickled, that is an error. The last makes it *possible*: if it cannot be
pickled, it is left out. Code that looks names up at run time (getattr, eval, globals …) may mean every member.
"""

from __future__ import annotations

import functools
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

from nblb.payload.kinds import CACHED, registry_of
from nblb.payload.project import IMPORT_SYSTEM, goes_by_name, project_modules

MAX_PARTS = 100_000  # values to traverse; the Pickler adds those beyond them when it meets them
LOOK_UP = frozenset(
    {"getattr", "hasattr", "globals", "vars", "dir", "eval", "exec", "__dict__", "import_module", "attrgetter"}
)
_IDENTIFIERS = re.compile(r"[^\W\d]\w*")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, types.BuiltinFunctionType)
_CONTAINERS = (list, tuple, set, frozenset)


class Reach:
    """The members of the project's modules that a function needs; it grows with each `add`.

    Parameters
    ----------
    function
        The function to be pickled.
    """

    def __init__(self, function: Any) -> None:
        self._required: dict[int, dict[str, bool]] = {}  # by module: name of a member -> is it required?
        self._modules: dict[int, types.ModuleType] = {}
        self._names: set[str] = set()
        self._matched: dict[int, int] = {}  # by module: how many of the names have been matched against it
        self._looks_up = False
        self._seen: dict[int, tuple[Any, bool]] = {}
        self._left: list[tuple[Any, bool]] = []
        self.absent: dict[tuple[int, str], str] = {}  # members that cannot be pickled -> the reason
        self.add(function, required=True)

    @property
    def modules(self) -> list[types.ModuleType]:
        """The modules of the project that travel, in an order that is the same in each process."""
        return sorted(self._modules.values(), key=lambda module: module.__name__)

    @property
    def size(self) -> int:
        """The number of members that travel; it grows when `add` finds more."""
        return len(self._modules) + sum(map(len, self._required.values()))

    def knows(self, module: types.ModuleType) -> bool:
        return id(module) in self._modules

    def names_of(self, module: types.ModuleType) -> dict[str, bool]:
        """Return the names by which members of a module may be looked up, each with True if it is required."""
        return self._required.get(id(module), {})

    def members(self, module: types.ModuleType) -> Iterator[tuple[str, Any, bool]]:
        """Yield (name, value, is required) of the members of a module that travel."""
        wanted = self.names_of(module)
        for name, value in list(vars(module).items()):  # in the module's order, which is the same in each process
            if name in wanted and name not in IMPORT_SYSTEM:
                yield name, value, wanted[name]

    def add(self, value: Any, required: bool = False) -> None:
        """Add the members that a value needs."""
        self._left.append((value, required))
        self._drain()
        while self._match():
            self._drain()

    def _drain(self) -> None:
        while self._left:
            value, required = self._left.pop()
            if isinstance(value, _PLAIN) or len(self._seen) > MAX_PARTS:
                continue
            seen = self._seen.get(id(value))
            if seen is None or (required and not seen[1]):
                self._seen[id(value)] = value, required
                self._look(value, required)

    def _match(self) -> bool:
        """Add the members whose names occur anywhere in the code; return True if there are new ones."""
        for key, module in list(self._modules.items()):
            if self._matched.get(key) == len(self._names) + self._looks_up:
                continue
            self._matched[key] = len(self._names) + self._looks_up
            there = vars(module)
            for name in there if self._looks_up else self._names & there.keys():
                self._want(module, name, False)
        return bool(self._left)

    def _want(self, module: types.ModuleType, name: str, required: bool) -> None:
        wanted = self._required[id(module)]
        if wanted.get(name, False) >= required and name in wanted:
            return
        wanted[name] = required
        if name in vars(module) and name not in IMPORT_SYSTEM:
            self._left.append((vars(module)[name], required))

    def _look(self, value: Any, required: bool) -> None:
        kind = type(value)
        if kind is types.FunctionType:
            self._function(value, required)
        elif isinstance(value, type):
            self._class(value, required)
        elif kind is types.ModuleType:
            self.module(value)
        elif kind in _CONTAINERS:
            self._push(value, required)
        elif kind is dict:
            self._push(value.keys(), required)
            self._push(value.values(), required)
        elif kind is types.MethodType:
            self._push((value.__func__, value.__self__), required)
        elif kind is functools.partial:
            self._push((value.func, value.args, value.keywords), required)
        elif kind is property:
            self._push((value.fget, value.fset, value.fdel), required)
        elif kind in (classmethod, staticmethod):
            self._push((value.__func__,), required)
        elif kind is functools.cached_property:
            self._push((value.func,), required)
        elif kind is CACHED:
            self._push((value.__wrapped__,), required)
        elif hasattr(kind, "__nblb_function__"):
            self._push((value.__nblb_function__,), required)
        elif not hasattr(kind, "__nblb_argument__"):
            self._push((kind, *getattr(value, "__dict__", {}).values()), required)

    def _push(self, values: Any, required: bool) -> None:
        self._left += [(value, required) for value in values]

    def module(self, module: types.ModuleType) -> None:
        """Add a module of the project, and the packages that contain it."""
        if id(module) in self._modules or not project_modules.owns(module):
            return
        self._modules[id(module)] = module
        self._required[id(module)] = {}
        package = sys.modules.get(module.__name__.rpartition(".")[0])
        if package is not None:
            self.module(package)

    def _function(self, function: types.FunctionType, required: bool) -> None:
        if goes_by_name(function):
            return
        if (registry := registry_of(function)) is not None:
            self._push((*registry, *registry.values()), required)
            return
        names, texts = names_in(function.__code__)
        self._names |= names | texts
        self._annotations(function.__annotations__)
        self._looks_up |= not LOOK_UP.isdisjoint(names)
        own = project_modules.of_globals(function.__globals__)
        if own is not None:
            self.module(own)
            self._imports(own, names)
        held = [_content(cell) for cell in function.__closure__ or ()]
        for name in names:
            if own is not None:
                self._want(own, name, required)
            if name in function.__globals__:
                held.append(function.__globals__[name])
        for module in held:
            if type(module) is types.ModuleType and project_modules.owns(module):
                self.module(module)
                for name in names:
                    self._want(module, name, required)
        self._push(held, required)
        self._push((function.__defaults__, function.__kwdefaults__, vars(function)), required)

    def _imports(self, module: types.ModuleType, names: frozenset[str]) -> None:
        """Add the modules of the project that the code imports when it runs, relative imports included."""
        package = vars(module).get("__package__") or ""
        while True:
            for name in names:
                found = sys.modules.get(f"{package}.{name}" if package else name)
                if found is not None and name.isidentifier() and project_modules.owns(found):
                    self.module(found)
            if not package:
                return
            package = package.rpartition(".")[0]

    def _class(self, cls: type, required: bool) -> None:
        if goes_by_name(cls):
            return
        module = sys.modules.get(cls.__module__)
        if module is not None and project_modules.owns(module):
            self.module(module)
            self._want(module, cls.__qualname__.partition(".")[0], required)
        self._push((*cls.__bases__, type(cls), *vars(cls).values()), required)
        self._annotations(vars(cls).get("__annotations__", {}))

    def _annotations(self, annotations: Any) -> None:
        for annotation in annotations.values() if isinstance(annotations, dict) else ():
            if isinstance(annotation, str):
                self._names.update(_IDENTIFIERS.findall(annotation))
            else:
                self._left.append((annotation, False))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is empty
        return None


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that the code, or a function inside it, looks up, and its strings that could be such names."""
    names, texts = set(code.co_names), set[str]()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = names_in(constant)
            names |= inner[0]
            texts |= inner[1]
        elif isinstance(constant, str) and constant.isidentifier():
            texts.add(constant)
        elif isinstance(constant, (tuple, frozenset)):
            texts.update(part for part in constant if isinstance(part, str) and part.isidentifier())
    for dotted in [name for name in names if "." in name]:  # import a.b
        names.update(dotted.split("."))
    return frozenset(names), frozenset(texts)
