"""Reductions for kinds of objects that neither pickle nor cloudpickle can handle."""

from __future__ import annotations

import concurrent.futures
import contextvars
import ctypes
import functools
import threading
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

from cloudpickle import cloudpickle

from nblb.payload.project import goes_by_name, project_modules

CACHED = type(functools.lru_cache(lambda: None))
_PLAIN_CACHE = frozenset(vars(functools.lru_cache(lambda: None)))


def _singledispatch_code() -> types.CodeType:
    def base(_: Any) -> None: ...

    return functools.singledispatch(base).__code__  # type: ignore[attr-defined,no-any-return]


_dispatcher = _singledispatch_code()
_EXCEPTIONS: tuple[Any, ...] = (BaseException.__reduce__, OSError.__reduce__)
_OF_DISPATCH = ("register", "dispatch", "registry", "_clear_cache")


def reduced(obj: Any, kind: type, in_module: bool) -> Any:
    """Return the reduction of an object of these kinds, or NotImplemented.

    Parameters
    ----------
    obj, kind
        The object and its type.
    in_module
        True if it belongs to a module that is rebuilt where it is loaded. Locks and similar objects are made anew
        there, as an import would do.
    """
    if kind is CACHED:
        return NotImplemented if goes_by_name(obj) else _cached(obj)
    if kind is functools.cached_property:
        return functools.cached_property, (obj.func,), {"attrname": obj.attrname, "__doc__": obj.__doc__}
    if kind is functools.singledispatchmethod:
        return kind, (obj.func,), list(registry_of(obj.dispatcher).items()), None, None, _fill_dispatching_method
    if kind in _TYPE_NAMES:
        is_own = obj.__module__ == "__main__" or obj.__module__ in project_modules
        return _TYPE_NAMES[kind](obj) if is_own else NotImplemented
    if kind.__reduce__ in _EXCEPTIONS and any(
        "__init__" in vars(each) for each in kind.__mro__ if not _is_builtin(each)
    ):
        _, args, *state = obj.__reduce__()
        return _exception, (kind, args), *state
    if in_module and kind in MADE_ANEW:
        return MADE_ANEW[kind](obj)
    return NotImplemented


def _exception(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Rebuild an exception whose own `__init__` may take other arguments than its `args`."""
    made = kind.__new__(kind, *args)
    if isinstance(made, OSError):
        OSError.__init__(made, *args)
    return made


def _is_builtin(kind: type) -> bool:
    return kind.__module__ == "builtins"


def dispatching(obj: types.FunctionType) -> Any:
    """Return the reduction of a functools.singledispatch function, or NotImplemented."""
    if obj.__code__ is not _dispatcher or goes_by_name(obj):
        return NotImplemented
    attributes = {name: value for name, value in vars(obj).items() if name not in _OF_DISPATCH}
    attributes |= {name: getattr(obj, name) for name in ("__name__", "__qualname__", "__module__", "__doc__")}
    return _make_dispatching, (), (list(registry_of(obj).items()), attributes), None, None, _fill_dispatching


def registry_of(function: Any) -> Any:
    """Return the implementations of a functools.singledispatch function; None for another function."""
    return function.registry if function.__code__ is _dispatcher else None


def _cached(obj: Any) -> Any:
    """Rebuild a functools cache with the same function and bounds; it starts empty."""
    added = {name: value for name, value in vars(obj).items() if name not in _PLAIN_CACHE}
    parameters = obj.cache_parameters()
    return _make_cached, (parameters["maxsize"], parameters["typed"], obj.__wrapped__), added or None, None, None, _add


def _make_cached(maxsize: int | None, typed: bool, function: Callable[..., Any]) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _add(obj: Any, attributes: dict[str, Any]) -> None:
    vars(obj).update(attributes)


def _make_dispatching() -> Any:
    def base(*_: Any, **__: Any) -> None: ...

    return functools.singledispatch(base)


def _fill_dispatching(obj: Any, state: tuple[list[tuple[type, Any]], dict[str, Any]]) -> None:
    registered, attributes = state
    for cls, implementation in registered:
        obj.register(cls, implementation)
    for name, value in attributes.items():
        setattr(obj, name, value)


def _fill_dispatching_method(obj: Any, registered: list[tuple[type, Any]]) -> None:
    """Register the implementations; from Python 3.13 on, the method also has a cache of weak references."""
    for cls, implementation in registered:
        obj.dispatcher.register(cls, implementation)


def _anew(make: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda _: (make, ())


def _variable(obj: contextvars.ContextVar[Any]) -> Any:
    try:
        default = contextvars.Context().run(obj.get)
    except LookupError:
        return contextvars.ContextVar, (obj.name,)
    return _make_variable, (obj.name, default)


def _make_variable(name: str, default: Any) -> contextvars.ContextVar[Any]:
    return contextvars.ContextVar(name, default=default)  # as the module defines it


def _pool(obj: Any) -> Any:
    return type(obj), (obj._max_workers,)


MADE_ANEW: dict[type, Callable[[Any], Any]] = {
    type(threading.Lock()): _anew(threading.Lock),
    type(threading.RLock()): _anew(threading.RLock),
    threading.local: _anew(threading.local),
    contextvars.ContextVar: _variable,
    weakref.WeakValueDictionary: _anew(weakref.WeakValueDictionary),
    weakref.WeakKeyDictionary: _anew(weakref.WeakKeyDictionary),
    concurrent.futures.ThreadPoolExecutor: _pool,
    concurrent.futures.ProcessPoolExecutor: _pool,
    ctypes.CDLL: lambda obj: (ctypes.CDLL, (obj._name,)),
}
_TYPE_NAMES: dict[type, Callable[[Any], Any]] = {  # pickle would look these up in their module, which is not loaded yet
    typing.TypeVar: lambda obj: (cloudpickle._make_typevar, cloudpickle._decompose_typevar(obj)),
    typing.ParamSpec: lambda obj: (typing.ParamSpec, (obj.__name__,)),
    typing.NewType: lambda obj: (typing.NewType, (obj.__name__, obj.__supertype__)),
}
