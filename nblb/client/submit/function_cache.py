"""The function cache: pickled functions, pickled again only if they, or something they capture, may have changed.

The rule: a task computes with what its function captured at the moment of `submit`. So each submit first checks
everything that the last blob was made from, as cheaply as its kind allows:

- code, defaults, closure cells and the globals that the code names: they must be the same objects;
- immutable values (numbers, text, bytes, modules and functions pickled by name): the same object is enough;
- lists, dicts, sets, tuples and functions: each of their parts is checked;
- arrays and other buffers: their bytes are compared with a copy, or with the file that they were written to;
- everything else (a DataFrame, an object of your own class): a change cannot be detected, so each submit pickles the
  function again, and the content hash of the blob shows whether anything is new.

The check of a function that captures only such values takes a microsecond or two; pass large objects of the last kind
through `lb.put` instead.
"""

from __future__ import annotations

import array
import datetime as dt
import decimal
import enum
import fractions
import functools
import logging
import pathlib
import re
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from nblb import payload
from nblb.protocol.framing import Buffer
from nblb.protocol.messages import PutBlob
from nblb.shared_files.dirty_pages import are_same
from nblb.shared_files.transfer import are_there
from nblb.user_text import clean_name

MAX_FUNCTIONS = 32  # most functions whose blobs are kept
MAX_BYTES = 64 * 1024 * 1024  # most bytes of these blobs, not counting the latest
LARGEST_COPY = 1024 * 1024  # of an array; a larger one is compared with the file that it was written to
MAX_PARTS = 10_000  # a function that captures more is pickled again at each submit

_CONSTANT_TYPES = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    type(...),
    re.Pattern,
    enum.Enum,
    dt.date,
    dt.time,
    dt.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    pathlib.PurePath,
    types.BuiltinFunctionType,
)
_NUMPY_ARRAYS = ("ndarray", "matrix", "memmap", "recarray", "chararray", "void")  # numpy's other classes cannot change
_SLOTS = (types.GetSetDescriptorType, types.MemberDescriptorType)
_MISSING = object()
_EMPTY = object()


class _Opaque(Exception):
    """Raised for a value whose changes cannot be detected."""


class Watch:
    """A check that a function would still be pickled to the same bytes; it does not keep the function itself alive."""

    def __init__(self, function: Any) -> None:
        self._functions: list[tuple[types.FunctionType, types.CodeType, Any, Any, bool]] = []
        self._classes: list[tuple[type, int]] = []
        self._members: list[tuple[type, str, Any]] = []
        self._names: list[tuple[dict[str, Any], str, Any]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._buffers: list[tuple[Any, Buffer | None, tuple[Any, ...]]] = []
        self._contents: list[tuple[Any, tuple[Any, ...]]] = []
        self._seen: dict[int, Any] = {}
        self._root: Any = function
        self._its_parts: tuple[types.CodeType, Any, Any, bool] | None = None  # of a plain function itself
        self.reach: payload.Reach | None = None  # the parts of the project's modules that the function needs, if any
        self.opaque = False
        try:
            self._look(function)
        except (_Opaque, RecursionError):
            self.opaque = True
        self._root, self._seen = None, {}

    def unchanged(self, root: Any) -> bool:
        """True if the same function, given again, is unchanged."""
        if self.opaque:
            return False
        if self._its_parts is not None:
            code, defaults, by_keyword, bare = self._its_parts
            if root.__code__ is not code or root.__defaults__ is not defaults:
                return False
            if root.__kwdefaults__ is not by_keyword or bare is bool(root.__dict__):
                return False
        for names, name, value in self._names:
            if names.get(name, _MISSING) is not value:
                return False
        for cell, value in self._cells:
            if _content(cell) is not value:
                return False
        for function, code, defaults, by_keyword, bare in self._functions:
            if function.__code__ is not code or function.__defaults__ is not defaults:
                return False
            if function.__kwdefaults__ is not by_keyword or bare is bool(function.__dict__):
                return False
        for cls, number in self._classes:
            if len(vars(cls)) != number:
                return False
        for cls, name, value in self._members:
            if vars(cls).get(name, _MISSING) is not value:
                return False
        for container, parts in self._contents:
            now = _parts(container)
            if len(now) != len(parts) or any(a is not b for a, b in zip(now, parts, strict=True)):
                return False
        for buffer, copy, shape in self._buffers:
            view = memoryview(buffer)
            if (view.format, view.shape) != shape or copy is None or not are_same(view, copy):
                return False
        return True

    def is_pickled(self) -> None:
        """Drop the copies of buffers that pickling has written to files: the files serve for the comparison."""
        self.reach = None
        for number, (buffer, copy, shape) in enumerate(self._buffers):
            if copy is None:
                self._buffers[number] = buffer, payload.stores.copy_of(buffer), shape

    def _look(self, value: Any) -> None:
        kind = type(value)
        if isinstance(value, _CONSTANT_TYPES) or id(value) in self._seen:
            return
        if len(self._seen) >= MAX_PARTS:
            raise _Opaque
        self._seen[id(value)] = value
        if kind is types.FunctionType:
            self._function(value)
        elif kind is types.MethodType:
            self._look(value.__func__)
            self._look(value.__self__)
        elif kind is functools.partial:
            for part in (value.func, value.args, value.keywords):
                self._look(part)
        elif kind is payload.CACHED:
            self._look(value.__wrapped__)
        elif kind in payload.MADE_ANEW or kind is logging.Logger:
            return
        elif kind in (list, tuple, dict, set, frozenset):
            self._container(value)
        elif kind is types.ModuleType:
            if payload.project_modules.owns(value):
                self._module(value)
        elif isinstance(value, type):
            if not payload.goes_by_name(value):
                self._class(value)
        elif hasattr(kind, "__nblb_function__"):
            self._look(value.__nblb_function__)
        elif kind in (bytearray, array.array, memoryview) or (kind.__module__, kind.__name__) == ("numpy", "ndarray"):
            self._buffer(value)
        elif kind.__module__ not in ("numpy", "numpy.dtypes") or kind.__name__ in _NUMPY_ARRAYS:
            raise _Opaque

    def _function(self, function: types.FunctionType) -> None:
        if payload.goes_by_name(function):
            return
        if payload.registry_of(function) is not None:
            self._registry(function)
            return
        defaults, by_keyword, attributes = function.__defaults__, function.__kwdefaults__, vars(function)
        if function is self._root:
            self._its_parts = function.__code__, defaults, by_keyword, not attributes
        else:
            self._functions.append((function, function.__code__, defaults, by_keyword, not attributes))
        for part in (defaults, by_keyword, attributes or None):
            self._look(part)
        for cell in function.__closure__ or ():
            value = _content(cell)
            self._cells.append((cell, value))
            if value is not _EMPTY:
                self._look(value)
        for name in _names(function.__code__):
            value = function.__globals__.get(name, _MISSING)
            self._names.append((function.__globals__, name, value))
            if value is not _MISSING:
                self._look(value)

    def _module(self, module: types.ModuleType) -> None:
        """Watch the members that are pickled, and the names of members that would be if they existed."""
        if self.reach is None:
            self.reach = payload.Reach(self._root)
        self.reach.module(module)
        there = vars(module)
        for name in self.reach.names_of(module):
            value = there.get(name, _MISSING)
            self._names.append((there, name, value))
            if value is not _MISSING and name != "__builtins__":
                self._look(value)

    def _container(self, container: Any) -> None:
        parts = _parts(container)
        if len(parts) > MAX_PARTS:
            raise _Opaque
        if type(container) not in (tuple, frozenset):
            self._contents.append((container, parts))
        for part in parts:
            self._look(part)

    def _class(self, cls: type) -> None:
        self._classes.append((cls, len(vars(cls))))
        for name, part in list(vars(cls).items()):
            self._members.append((cls, name, part))
            inner = _inner(part)
            if inner or isinstance(part, types.FunctionType):
                for each in inner or (part,):
                    self._look(each)
            elif not (name.startswith("__") or name == "_abc_impl" or isinstance(part, _SLOTS)):
                self._look(part)  # the members that Python itself adds follow from the rest
        for base in cls.__bases__:
            self._look(base)

    def _registry(self, function: Any) -> None:
        """Watch the implementations of a functools.singledispatch function, and that no others are registered."""
        self._contents.append((function.registry, _parts(function.registry)))
        for part in _parts(function.registry):
            self._look(part)

    def _buffer(self, value: Any) -> None:
        try:
            view = memoryview(value)
            if not view.c_contiguous or view.format == "O":
                raise _Opaque
            here = view.nbytes < LARGEST_COPY or not payload.stores.store
            copy = memoryview(bytearray(view.cast("B"))) if here else None
        except (TypeError, ValueError, BufferError):  # datetime or record arrays, or a shape with a zero in it
            raise _Opaque from None
        self._buffers.append((value, copy, (view.format, view.shape)))


def _inner(part: Any) -> tuple[Any, ...]:
    """The functions inside a property, a method, or a similar wrapper."""
    kind = type(part)
    if kind is property:
        return part.fget, part.fset, part.fdel
    if kind in (classmethod, staticmethod):
        return (part.__func__,)
    return (part.func,) if kind is functools.cached_property else ()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return _EMPTY


def _parts(container: Any) -> tuple[Any, ...]:
    if isinstance(container, (dict, types.MappingProxyType)):
        return tuple(container) + tuple(container.values())
    return tuple(container)


def _names(code: types.CodeType) -> set[str]:
    """All names that the code, or a function inside it, may look up among its globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function for people, if the user gave it no other."""
    name = getattr(function, "__name__", type(function).__name__)
    return "lambda" if name == "<lambda>" else clean_name(str(name))


class FunctionCache:
    """The latest blobs of the functions that this process submits, for as long as these functions are alive.

    The cache keeps no function alive, so captured objects are freed with it. MAX_BYTES bounds the blobs in memory.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[weakref.ref[Any], PutBlob, Watch]] = OrderedDict()  # by id() of the function

    def blob(self, function: Callable[..., Any]) -> PutBlob:
        """The blob of a function with everything that it captures, as it is now."""
        key = id(function)
        kept = self._kept.get(key)
        if kept is not None and kept[2].unchanged(function) and are_there(kept[1].payload):
            return kept[1]
        watch = Watch(function)  # before pickling, so that a change by another thread in between is noticed next time
        name, dumped = payload.dump_function(function, watch.opaque, watch.reach)
        watch.is_pickled()
        if kept is not None and kept[1].hash == name and are_there(kept[1].payload):
            blob = kept[1]
        else:
            blob = PutBlob(hash=name, payload=dumped, name=name_of(function))
        self._keep(key, function, blob, watch)
        return blob

    def _keep(self, key: int, function: Any, blob: PutBlob, watch: Watch) -> None:
        self._kept.pop(key, None)
        try:
            ref = weakref.ref(function, lambda _: self._kept.pop(key, None))
        except TypeError:  # an object with slots takes no weak reference, so its end would go unnoticed
            return
        self._kept[key] = ref, blob, watch
        while len(self._kept) > 1 and (len(self._kept) > MAX_FUNCTIONS or self._bytes() > MAX_BYTES):
            self._kept.popitem(last=False)

    def _bytes(self) -> int:
        while True:
            try:
                return sum(blob.payload.nbytes for _, blob, _ in self._kept.values())
            except RuntimeError:  # the garbage collector has just dropped a function: count again
                continue


shelf = FunctionCache()
