"""Modules of the project where they are loaded: made of what has travelled, importable while a function runs.

A function's pickle holds the modules that it needs (`reach.py`). Loading it makes modules of these, which belong to
that function alone: what they keep stays as long as the function does. `placed` puts them into sys.modules, so that
code which looks a module up by its name (pickle, typing.get_type_hints, an import in a function) finds these.
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
    """Where the modules go that this thread's unpickling makes, if they are to be found by their names."""

    placement: ModulePlacement | None = None


_unpickling = _Unpickling()
_placed: dict[str, types.ModuleType] = {}  # in sys.modules now; one slice runs at a time
_loaded_classes: weakref.WeakSet[type] = weakref.WeakSet()  # that unpickling has made in this process


class _Filling(types.ModuleType):
    """A module that is being unpickled: members are set as items, then it becomes a module like any other."""

    def __setitem__(self, name: str, value: Any) -> None:
        vars(self)[name] = value


class Absent:
    """Stands for a member of a module that could not travel; using it says why."""

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
    """A module without members; `fill_module` ends what is begun here.

    Parameters
    ----------
    name
        Its name in sys.modules.
    is_current
        Whether it was in sys.modules under this name, where it comes from; another may have taken its place.
    package
        The package that it lies in, if that travels too.
    """
    module = _Filling(name)
    vars(module)["__builtins__"] = builtins
    if package is not None:
        setattr(package, name.rpartition(".")[2], module)
    if is_current and _unpickling.placement is not None:
        _unpickling.placement.add(name, module)
    return module


def fill_module(module: types.ModuleType, data: dict[str, Any]) -> None:
    """Add the members that are no definitions; the module is complete."""
    vars(module).update(data)
    if type(module) is _Filling:
        module.__class__ = types.ModuleType  # type: ignore[assignment]
    if "__getattr__" not in vars(module):
        vars(module)["__getattr__"] = _Missing(module.__name__)


class _Missing:
    """A module's `__getattr__`: says of a member that was not sent along that it was not."""

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
    """The globals for functions of a module that come with an argument: those of the running function's module."""
    module = _placed.get(name)
    return {"__name__": name} if module is None else vars(module)


def unbundled(_: list[types.ModuleType], value: Any) -> Any:
    """A value, with modules before it that its code imports by name."""
    return value


def in_module(_: types.ModuleType, rebuild: Callable[..., Any], *args: Any) -> Any:
    """A class of a module that travels: the module is there before it."""
    return made_class(rebuild, *args)


def set_function_state(function: types.FunctionType, state: tuple[Callable[..., Any], Any, dict[str, Any]]) -> None:
    """What cloudpickle does to a function that comes with an argument, but for globals that are there already.

    These stay: the running function may have changed them.
    """
    set_state, its_state, names = state
    set_state(function, its_state)
    for name, value in names.items():
        function.__globals__.setdefault(name, value)


def set_class_state(cls: type, state: tuple[Callable[..., Any], Any]) -> None:
    """What cloudpickle does to a class; one that this very process has defined stays as it is."""
    set_state, its_state = state
    if cls in _loaded_classes:
        set_state(cls, its_state)


def made_class(rebuild: Callable[..., Any], *args: Any) -> Any:
    """A class by its definition; the one that this process has of the same definition, if it has one."""
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
        """One more module; it is put at once."""
        self._is_put = True
        self._before.setdefault(name, sys.modules.get(name, _MISSING))
        self._modules[name] = sys.modules[name] = _placed[name] = module

    def put(self) -> None:
        """Let every import of these names find these modules."""
        self._is_put = True
        _placements.append(self)
        for name in [name for name in sys.modules if self._is_inside(name)]:
            self._before[name] = sys.modules[name]
            del sys.modules[name]
        for name, module in self._modules.items():
            self._before.setdefault(name, _MISSING)
            sys.modules[name] = _placed[name] = module

    def take_away(self) -> None:
        """Put back what was there; what was imported inside of these packages meanwhile is kept with them."""
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


_placements: list[ModulePlacement] = []  # that have been put


def put_back() -> None:
    """Take away all modules that were put; nothing may interrupt this."""
    while _placements:
        _placements[-1].take_away()
        _placements.pop()


@contextlib.contextmanager
def placed_while_loaded() -> Iterator[ModulePlacement]:
    """Modules that unpickling in this block makes are importable in it, and collected."""
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
