"""The project's modules, rebuilt in the worker and importable while a function runs.

A function's pickle contains the members of modules that it needs (`reach.py`). Loading it rebuilds these modules,
which belong to that function alone: their state lasts as long as the function. `ModulePlacement` puts them into
sys.modules, so that code that looks a module up by its name (pickle, typing.get_type_hints, an import in a function)
finds them.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from nblb.errors import NotSerializable

_MISSING = object()


class _Unpickling(threading.local):
    """The placement for the modules that this thread's unpickling makes, if they must be importable."""

    placement: ModulePlacement | None = None


_unpickling = _Unpickling()
_placed: dict[str, types.ModuleType] = {}  # now in sys.modules; one slice runs at a time
_loaded_classes: weakref.WeakSet[type] = weakref.WeakSet()  # made by unpickling in this process


class _Filling(types.ModuleType):
    """A module during unpickling: its members are set as items, then it becomes an ordinary module."""

    def __setitem__(self, name: str, value: Any) -> None:
        vars(self)[name] = value


class Absent:
    """Stands for a member of a module that could not travel; any use raises an error with the reason."""

    def __init__(self, why: str) -> None:
        object.__setattr__(self, "_why", why)

    def __getattr__(self, name: str) -> Any:
        raise NotSerializable(self._why)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotSerializable(self._why)

    __call__ = __getitem__ = __setitem__ = __iter__ = __len__ = __enter__ = __bool__ = __setattr__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return Absent, (self._why,)


def make_module(name: str, is_current: bool, package: types.ModuleType | None) -> types.ModuleType:
    """Make a module without members, for `fill_module` to complete.

    Parameters
    ----------
    name
        Its name in sys.modules.
    is_current
        True if sys.modules had this very module under its name in the sending process.
    package
        Its package, if that travels too.
    """
    module = _Filling(name)
    vars(module)["__builtins__"] = builtins
    if package is not None:
        setattr(package, name.rpartition(".")[2], module)
    if is_current and _unpickling.placement is not None:
        _unpickling.placement.add(name, module)
    return module


def fill_module(module: types.ModuleType, data: dict[str, Any]) -> None:
    """Add the members that are not definitions, which completes the module."""
    vars(module).update(data)
    if type(module) is _Filling:
        module.__class__ = types.ModuleType  # type: ignore[assignment]
    if "__getattr__" not in vars(module):
        vars(module)["__getattr__"] = _Missing(module.__name__)


class _Missing:
    """A module's `__getattr__`, whose error explains that a member was not sent along."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __call__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"module {self._module!r} has no attribute {name!r}")
        raise AttributeError(
            f"module {self._module!r} has no attribute {name!r} here: the module was sent with the task's function, "
            "with those members that the function's code names; name it there"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _Missing, (self._module,)


def globals_of(name: str) -> dict[str, Any]:
    """Return the globals for a module's functions in an argument: those of the running function's module."""
    module = _placed.get(name)
    return {"__name__": name} if module is None else vars(module)


def unbundled(_: list[types.ModuleType], value: Any) -> Any:
    """Return a value; the modules that its code imports by name are pickled before it."""
    return value


def in_module(_: types.ModuleType, rebuild: Callable[..., Any], *args: Any) -> Any:
    """Rebuild a class of a module that travels; the module is pickled before it."""
    return made_class(rebuild, *args)


def set_function_state(function: types.FunctionType, state: tuple[Callable[..., Any], Any, dict[str, Any]]) -> None:
    """Set the state of a function in an argument as cloudpickle does, except for globals that exist already.

    The running function may have changed those.
    """
    set_state, its_state, names = state
    set_state(function, its_state)
    for name, value in names.items():
        function.__globals__.setdefault(name, value)


def set_class_state(cls: type, state: tuple[Callable[..., Any], Any]) -> None:
    """Set the state of a class as cloudpickle does, unless this process itself has defined the class."""
    set_state, its_state = state
    if cls in _loaded_classes:
        set_state(cls, its_state)


def made_class(rebuild: Callable[..., Any], *args: Any) -> Any:
    """Rebuild a class; return the class that this process already has of the same definition, if any."""
    known = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
    is_new = not any(type(each) is str and each in known for each in args)
    cls = rebuild(*args)
    if is_new:
        _loaded_classes.add(cls)
    return cls


class ModulePlacement:
    """The modules of one function, in sys.modules from `put` to `take_away`."""

    def __init__(self) -> None:
        self._modules: dict[str, types.ModuleType] = {}
        self._before: dict[str, Any] = {}
        self._is_put = False

    def __bool__(self) -> bool:
        return bool(self._modules)

    def add(self, name: str, module: types.ModuleType) -> None:
        """Add a module, and put it into sys.modules at once."""
        self._is_put = True
        self._before.setdefault(name, sys.modules.get(name, _MISSING))
        self._modules[name] = sys.modules[name] = _placed[name] = module

    def put(self) -> None:
        """Put the modules into sys.modules, so that every import of their names finds them."""
        self._is_put = True
        _placements.append(self)
        for name in [name for name in sys.modules if self._is_inside(name)]:
            self._before[name] = sys.modules[name]
            del sys.modules[name]
        for name, module in self._modules.items():
            self._before.setdefault(name, _MISSING)
            sys.modules[name] = _placed[name] = module

    def take_away(self) -> None:
        """Restore the earlier modules; keep the modules imported meanwhile from inside these packages with them."""
        if self._is_put:
            for name in [name for name in sys.modules if self._is_inside(name)]:
                self._modules[name] = sys.modules[name]
            self._is_put = False
        for name in self._modules:
            _placed.pop(name, None)
            sys.modules.pop(name, None)
        while self._before:
            name, module = self._before.popitem()
            if module is not _MISSING:
                sys.modules[name] = module

    def _is_inside(self, name: str) -> bool:
        return name in self._modules or name.partition(".")[0] in self._modules


_placements: list[ModulePlacement] = []  # those now in sys.modules


def put_back() -> None:
    """Remove all placed modules from sys.modules; nothing may interrupt this."""
    while _placements:
        _placements[-1].take_away()
        _placements.pop()


@contextlib.contextmanager
def placed_while_loaded() -> Iterator[ModulePlacement]:
    """Make the modules that unpickling creates in this block importable in it, and collect them."""
    before, placement = _unpickling.placement, ModulePlacement()
    _unpickling.placement = placement
    _placements.append(placement)
    try:
        yield placement
    finally:
        _unpickling.placement = before
        placement.take_away()
        if placement in _placements:
            _placements.remove(placement)
