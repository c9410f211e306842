"""The Pickler of nblb: it decides what travels by value, replaces futures, and takes large buffers out of band.

It adds three rules to plain pickle:

- Functions and classes of `__main__` and of the user's own project (`project.py`) travel by value, since no hub has
  their current version. The members of the project's modules that a function needs travel with it (`reach.py`,
  `modules.py`). Installed packages travel by name.
- An object whose class has `__nblb_argument__` (a future, a Job, a handle of `lb.put`) is replaced by the Input or
  Constant that it returns. That is allowed only in arguments, where the worker can put the value in its place.
- Buffers of 64 KiB and more are kept out of the pickle and copied once, so that later changes of an array do not
  affect what was submitted. With a `store`, large ones are copied straight into a file.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import cloudpickle

from nblb.errors import NoCompatibleHub, NotSerializable
from nblb.host import numpy_version
from nblb.payload import classes, kinds, modules
from nblb.payload.project import project_modules
from nblb.payload.reach import Reach
from nblb.protocol.framing import LARGE, Buffer, Part
from nblb.shared_files.transfer import BY_FILE

PROTOCOL = 5


class Store(Protocol):
    """A place for large buffers, from which other processes read them, so that they are not sent."""

    def put(self, buffers: Sequence[Buffer], alike: Alike | None) -> list[Buffer | Part]:
        """Store the buffers and return them, each as the part of a file or as it was; raise OSError without room."""

    def copy_of(self, buffer: Buffer) -> Buffer | None:
        """Return the last stored copy of a buffer at this address, if known; it must not be written to."""


Alike: TypeAlias = "dict[tuple[int, int], tuple[Part, Buffer]]"  # valid while nothing can change the memory


class _Stores:
    """The store of this process, if any."""

    def __init__(self) -> None:
        self.store: Store | None = None

    def forget(self) -> None:
        self.store = None

    def copy_of(self, buffer: Buffer) -> Buffer | None:
        return self.store.copy_of(buffer) if self.store is not None else None


stores = _Stores()
os.register_at_fork(after_in_child=stores.forget)  # its files are the parent's


def kept(buffers: Sequence[Buffer], alike: Alike | None = None, by_file: bool = True) -> list[Buffer | Part]:
    """Return snapshots of a pickle's buffers: in a file if they are large, else copied."""
    if by_file and stores.store is not None and sum(memoryview(b).nbytes for b in buffers) >= BY_FILE:
        try:
            return stores.store.put(buffers, alike)
        except OSError:
            pass  # no room: they are sent like all others, and the receiver reports a full disk
    return [buffer if type(buffer) is bytes else bytearray(buffer) for buffer in buffers]


NO_FILE = "<dynamic-code>"  # cloudpickle 3.1.3 and later replace the file name of code by this


def reduced_code(code: types.CodeType) -> tuple[Any, ...]:
    """Reduce code as cloudpickle does, but keep its file name, by which tracebacks find the lines of a cell."""
    rebuild, args, *rest = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    named = (code.co_filename if type(arg) is str and arg == NO_FILE else arg for arg in args)
    return (rebuild, tuple(named), *rest)


class NeedsReach(Exception):
    """Raised when a module of the project is met without a Reach: pickle again, with one."""


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's Pickler with nblb's rules; one instance can write many pickles, end to end, into its file.

    Parameters
    ----------
    file
        The file to write to.
    arguments
        True if the value may contain futures and other objects with `__nblb_argument__`.
    reach
        The modules of the project that travel along. Without it, functions of such modules travel with the globals
        that they use, for a process that already has the module; a module itself raises NeedsReach.
    in_module
        True if the value belongs to a module, so that locks are made anew.
    """

    def __init__(
        self, file: io.BytesIO, arguments: bool = False, reach: Reach | None = None, in_module: bool = False
    ) -> None:
        self.large: list[Buffer] = []  # out-of-band buffers of the current pickle, not copied yet: see `kept`
        self.stand_ins: list[Any] = []  # Input and Constant objects in the pickle
        self.code: set[types.CodeType] = set()  # of functions pickled by value
        self._arguments, self._reach, self._in_module = arguments, reach, int(in_module)
        self._namespaces: dict[int, _Namespace] = {}  # of functions of modules, by the id of their globals
        super().__init__(file, protocol=PROTOCOL, buffer_callback=self._keep_out)

    def _keep_out(self, buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LARGE:
            return True  # in band
        self.large.append(raw.obj if type(raw.obj) is bytes else raw)
        return False

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if hasattr(kind, "__nblb_argument__"):
            return self._stand_in(obj)
        if kind is types.CodeType:
            self.code.add(obj)
            return reduced_code(obj)
        if kind is types.FunctionType:
            return self._function(obj)
        if issubclass(kind, type):
            return self._class(obj)
        if kind is types.ModuleType:
            return self._module(obj) if project_modules.owns(obj) else NotImplemented
        if kind is _Namespace or kind is _Data:
            return obj.reduced()
        return kinds.reduced(obj, kind, bool(self._in_module))

    def _stand_in(self, obj: Any) -> Any:
        if not self._arguments:
            raise NotSerializable(
                f"{obj!r} is captured by a function or is inside a constant; pass it as an argument, "
                "then the hub puts its value in"
            )
        stand_in = obj.__nblb_argument__()
        self.stand_ins.append(stand_in)
        return stand_in.__reduce__()

    def _function(self, obj: types.FunctionType) -> Any:
        reduced = kinds.dispatching(obj)
        if reduced is NotImplemented:
            name: Any = obj.__module__
            is_own = isinstance(name, str) and name in project_modules
            reduced = self._dynamic_function_reduce(obj) if is_own else super().reducer_override(obj)
        module = project_modules.of_globals(obj.__globals__)
        if module is None or not isinstance(reduced, tuple):
            return reduced
        make, (code, _, *more), (attributes, slots), _, _, set_state = reduced
        names, slots["__globals__"] = slots["__globals__"], {}
        namespace = self._namespaces.get(id(obj.__globals__))
        if namespace is None:
            shared = module if self._reach is not None else module.__name__
            namespace = self._namespaces[id(obj.__globals__)] = _Namespace(shared)
        args, state = (code, namespace, *more), (attributes, slots)
        if self._reach is None:
            return make, args, (set_state, state, names), None, None, modules.set_function_state
        self._reach.add(obj)
        return make, args, state, None, None, set_state

    def _class(self, obj: type) -> Any:
        module = getattr(obj, "__module__", None)
        if isinstance(module, str) and module in project_modules:
            reduced = cloudpickle.cloudpickle._dynamic_class_reduce(obj)
        else:
            reduced = super().reducer_override(obj)
        if not isinstance(reduced, tuple) or len(reduced) < 6:
            return reduced
        rebuild, args, state, set_state = classes.mended(obj, reduced)
        state = set_state, state
        if self._reach is None or not isinstance(module, str) or module not in project_modules:
            return modules.made_class, (rebuild, *args), state, None, None, modules.set_class_state
        self._reach.add(obj)
        return modules.in_module, (sys.modules[module], rebuild, *args), state, None, None, modules.set_class_state

    def _module(self, obj: types.ModuleType) -> Any:
        if self._reach is None:
            raise NeedsReach
        self._reach.module(obj)
        package = sys.modules.get(obj.__name__.rpartition(".")[0])
        if package is not None and not project_modules.owns(package):
            package = None
        begun = (obj.__name__, sys.modules.get(obj.__name__) is obj, package)
        data = _Data(self._members(obj, definitions=False))
        return modules.make_module, begun, data, None, self._members(obj, definitions=True), modules.fill_module

    def _members(self, module: types.ModuleType, definitions: bool) -> Iterator[tuple[str, Any]]:
        """Yield the members of a module; in the pickle, locks and similar objects are replaced by new ones."""
        reach = self._reach
        assert reach is not None
        self._in_module += 1
        yield "__name__", module.__name__  # of two or more, pickle writes the last before it asks for the end
        yield "__doc__", module.__doc__
        if definitions:
            for name in ("__package__", "__path__", "__file__"):
                if (value := getattr(module, name, None)) is not None:
                    yield name, list(value) if name == "__path__" else value
        for name, value, _ in list(reach.members(module)):
            why = reach.absent.get((id(module), name))
            if name not in _IDENTITY and definitions is (why is None and isinstance(value, _DEFINITIONS)):
                yield name, value if why is None else modules.Absent(why)
        self._in_module -= 1


_IDENTITY = frozenset({"__name__", "__file__", "__package__", "__path__", "__doc__"})
_DEFINITIONS = (type, types.FunctionType, types.ModuleType, types.BuiltinFunctionType, int, float, complex, str, bytes)


class _Namespace:
    """The globals of a module's function: of a module that travels along, or of one that the receiver has."""

    def __init__(self, module: types.ModuleType | str) -> None:
        self._module = module

    def reduced(self) -> tuple[Any, ...]:
        return modules.globals_of if isinstance(self._module, str) else vars, (self._module,)


class _Data:
    """The members of a module that are not definitions, pickled as a dict, one after the other."""

    def __init__(self, members: Iterator[tuple[str, Any]]) -> None:
        self._members = members

    def reduced(self) -> tuple[Any, ...]:
        return dict, (), None, None, self._members


class _Desk(threading.local):
    """A reused Pickler for small values, because making one takes longer than pickling most arguments."""

    def __init__(self) -> None:
        self.busy = False
        self.renew()

    def renew(self) -> None:
        self.file = io.BytesIO()
        self.pickler = Pickler(self.file, arguments=True)


_desk = _Desk()


def dump_arguments(value: Any) -> tuple[list[Buffer | Part], list[Any]]:
    """Return one pickle of `value`, its large buffers, and the stand-ins in it."""
    desk = _desk
    if desk.busy:  # a user's __reduce__ has submitted a task
        dumped, another = dump(value, arguments=True)
        return dumped, another.stand_ins
    desk.busy = True
    file, pickler = desk.file, desk.pickler
    try:
        try:
            pickler.dump(value)
        except NeedsReach:
            desk.renew()
            dumped, another = dump(value, arguments=True, reach=Reach(value))
            return dumped, another.stand_ins
        written = file.getvalue()
        buffers: list[Buffer | Part] = [written]
        stand_ins: list[Any] = []
        if pickler.large or len(written) >= BY_FILE:
            buffers = kept([written, *pickler.large])
            pickler.large.clear()
        if pickler.stand_ins:
            stand_ins += pickler.stand_ins
            pickler.stand_ins.clear()
        if pickler.code or len(written) > LARGE:
            desk.renew()  # so that no user's object is kept alive
        else:
            pickler.clear_memo()
            file.seek(0)
            file.truncate()
    except BaseException:
        desk.renew()
        raise
    finally:
        desk.busy = False
    return buffers, stand_ins


def dump(
    value: Any,
    arguments: bool = False,
    by_file: bool = True,
    alike: Alike | None = None,
    reach: Reach | None = None,
    in_module: bool = False,
) -> tuple[list[Buffer | Part], Pickler]:
    """Return one pickle of `value` with its large buffers, and the Pickler, which lists the code and stand-ins met.

    With a `reach`, the modules of the project that it names travel along, including those found while pickling.
    """
    while True:
        file = io.BytesIO()
        pickler = Pickler(file, arguments, reach, in_module)
        before = reach.size if reach is not None else 0
        try:
            pickler.dump(value if reach is None or not reach.modules else _Bundle(reach.modules, value))
        except NeedsReach:
            reach = Reach(value)
            continue
        if reach is None or reach.size == before:
            break
    buffers = kept([file.getvalue(), *pickler.large], alike, by_file)
    pickler.large.clear()
    return buffers, pickler


class _Bundle:
    """A value and the modules that its code needs."""

    def __init__(self, needed: list[types.ModuleType], value: Any) -> None:
        self._needed, self._value = needed, value

    def __reduce__(self) -> tuple[Any, ...]:
        return modules.unbundled, (self._needed, self._value)


def load(buffers: Sequence[Buffer]) -> Any:
    """Load the value of one pickle and its large buffers.

    Raises
    ------
    NoCompatibleHub
        It was pickled with NumPy 2, and this process has NumPy 1.
    """
    try:
        return pickle.loads(buffers[0], buffers=map(_writable, buffers[1:]))
    except ModuleNotFoundError as error:
        raise not_found(error) from None


def not_found(error: ModuleNotFoundError) -> Exception:
    """Return the error to raise if loading a pickle finds no module: it says where, and what to do.

    It is NoCompatibleHub if the module is NumPy 2's.
    """
    if not (error.name or "").startswith("numpy._core"):
        words = f"{error} on {socket.gethostname()}; install it in the Python there ({sys.executable})"
        return ModuleNotFoundError(words, name=error.name, path=error.path)
    return NoCompatibleHub(
        f"this was pickled with NumPy 2, and {socket.gethostname()} has NumPy {numpy_version() or '1'}, which cannot "
        "load it; install the same major version of NumPy on both"
    )


def _writable(buffer: Buffer) -> Buffer:
    """Return a writable buffer, so that a result or an argument can be changed as the original could."""
    return bytearray(buffer) if memoryview(buffer).readonly else buffer
