"""The one Pickler of nblb: what travels by value, what stands in for a future, what goes out of band.

Three rules that plain pickle does not have:

- Functions and classes of the user's own project (`__main__`, notebook cells, .py files under the notebook's
  folder or the working folder) travel by value, since no hub can import them. Installed packages go by name.
- An object whose class has `__nblb_argument__` (a future, a Job, a handle of `lb.put`) is replaced by the Input or
  Constant that it returns. That is only allowed in arguments, where the hub can put the value in its place.
- Buffers of 64 KiB and more are kept out of the pickle, copied once: what is submitted is what the caller saw, even
  if an array is changed the moment after. Where there is a `store`, large ones are copied straight into a file.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import cloudpickle

from nblb.errors import NotSerializable
from nblb.protocol.framing import LARGE, Buffer, Part
from nblb.shared_files.transfer import BY_FILE

PROTOCOL = 5

_IMPORTS_OWN = frozenset({"__builtins__", "__cached__", "__loader__", "__spec__"})

_by_value_lock = threading.Lock()


class Store(Protocol):
    """Where large buffers can be put for others to find, instead of being sent."""

    def put(self, buffers: Sequence[Buffer], alike: Alike | None) -> list[Buffer | Part]:
        """The same buffers, wherever they lie now; raises OSError where there is no room."""

    def copy_of(self, buffer: Buffer) -> Buffer | None:
        """What a buffer at this place was put as last, if that is known; not to be written to."""


Alike: TypeAlias = "dict[tuple[int, int], tuple[Part, Buffer]]"  # what lies at an address cannot change meanwhile


class _Stores:
    """The store of this process, while there is one."""

    def __init__(self) -> None:
        self.store: Store | None = None

    def forget(self) -> None:
        self.store = None

    def copy_of(self, buffer: Buffer) -> Buffer | None:
        return self.store.copy_of(buffer) if self.store is not None else None


stores = _Stores()
os.register_at_fork(after_in_child=stores.forget)  # its names are the parent's


def kept(buffers: Sequence[Buffer], alike: Alike | None = None, by_file: bool = True) -> list[Buffer | Part]:
    """The buffers of a pickle as they are now: in a file where they are large, else copied."""
    if by_file and stores.store is not None and sum(memoryview(b).nbytes for b in buffers) >= BY_FILE:
        try:
            return stores.store.put(buffers, alike)
        except OSError:
            pass  # no room: sent like all others, and whoever keeps them says so
    return [buffer if type(buffer) is bytes else bytearray(buffer) for buffer in buffers]


class ProjectModules:
    """Which modules are the user's own: source files under the project's folders, installed nowhere."""

    def __init__(self) -> None:
        paths = sysconfig.get_paths()
        installed = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
        self._installed = tuple(folder + os.sep for folder in installed)
        self._roots: tuple[str, ...] = ()
        self._known: dict[str, tuple[types.ModuleType, bool]] = {}
        self._here = ""

    def __contains__(self, name: str) -> bool:
        module = sys.modules.get(name)
        if module is None or name == "__main__" or name.partition(".")[0] == "nblb":
            return False
        here = os.getcwd()  # noqa: PTH109  # asked for each class that is pickled; Path.cwd() takes ten times as long
        if here != self._here:
            self._here, self._roots = here, _project_folders(here)
            self._known.clear()
        known = self._known.get(name)
        if known is None or known[0] is not module:
            known = self._known[name] = (module, self._is_own(module))
        return known[1]

    def _is_own(self, module: types.ModuleType) -> bool:
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py"):
            return False
        path = str(Path(path).absolute())
        if path.startswith(self._installed) or "site-packages" in path or "dist-packages" in path:
            return False
        return path.startswith(self._roots)


def _project_folders(here: str) -> tuple[str, ...]:
    """The working folder, the notebook's and the script's, each with its separator at the end."""
    folders = {here}
    notebook = Path(os.environ.get("JPY_SESSION_NAME", ""))
    if notebook.is_absolute():
        folders.add(str(notebook.parent))
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script and not str(Path(script).absolute()).startswith(sys.prefix):
        folders.add(str(Path(script).absolute().parent))
    return tuple(folder + os.sep for folder in folders if folder != os.sep)


project_modules = ProjectModules()


def module_content(module: types.ModuleType) -> dict[str, Any]:
    """What a module of the project is made of, without what the import system put into it."""
    return {name: part for name, part in vars(module).items() if name not in _IMPORTS_OWN}


def goes_by_name(thing: Any) -> bool:
    """Whether a function or class is pickled as a name that is imported where it is loaded."""
    name, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if not isinstance(name, str) or name == "__main__" or name in project_modules:
        return False
    found: Any = sys.modules.get(name)
    for step in path.split("."):
        found = getattr(found, step, None)
    return found is thing


NO_FILE = "<dynamic-code>"  # what cloudpickle from 3.1.3 on says instead of the file that code came from


def reduced_code(code: types.CodeType) -> tuple[Any, ...]:
    """As cloudpickle reduces code, but with the name of its file, by which tracebacks show the lines of a cell."""
    rebuild, args, *rest = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    named = (code.co_filename if type(arg) is str and arg == NO_FILE else arg for arg in args)
    return (rebuild, tuple(named), *rest)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's, with nblb's three rules; one instance can write many pickles, end to end, into its file."""

    def __init__(self, file: io.BytesIO, arguments: bool = False) -> None:
        self.large: list[Buffer] = []  # what stays out of the pickle being written, not copied yet: see `kept`
        self.stand_ins: list[Any] = []  # Input and Constant objects that were put in
        self.code: set[types.CodeType] = set()  # of functions that went by value
        self._arguments = arguments
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
        if kind is types.ModuleType:
            if obj.__name__ in project_modules:
                return types.ModuleType, (obj.__name__,), module_content(obj)
            return NotImplemented
        if kind is types.FunctionType or isinstance(obj, type):
            module = getattr(obj, "__module__", None)
            if isinstance(module, str) and module in project_modules:
                return self._by_value(sys.modules[module], super().reducer_override, obj)
        return super().reducer_override(obj)

    def _stand_in(self, obj: Any) -> Any:
        if not self._arguments:
            raise NotSerializable(
                f"{obj!r} is captured by a function or lies in a constant; pass it as an argument, "
                "then the hub puts its value in"
            )
        stand_in = obj.__nblb_argument__()
        self.stand_ins.append(stand_in)
        return stand_in.__reduce__()

    @staticmethod
    def _by_value(module: types.ModuleType, reduce: Callable[[Any], Any], obj: Any) -> Any:
        """`reduce` while the module counts as one whose content travels; cloudpickle's registry is process-wide."""
        with _by_value_lock:
            registered = module.__name__ in cloudpickle.cloudpickle.list_registry_pickle_by_value()
            if not registered:
                cloudpickle.register_pickle_by_value(module)
            try:
                return reduce(obj)
            finally:
                if not registered:
                    cloudpickle.unregister_pickle_by_value(module)


class _Desk(threading.local):
    """A Pickler at hand for small things: making one takes longer than most arguments take to pickle."""

    def __init__(self) -> None:
        self.busy = False
        self.renew()

    def renew(self) -> None:
        self.file = io.BytesIO()
        self.pickler = Pickler(self.file, arguments=True)


_desk = _Desk()


def dump_arguments(value: Any) -> tuple[list[Buffer | Part], list[Any]]:
    """One pickle of `value` and its large buffers; and the stand-ins that were put into it."""
    desk = _desk
    if desk.busy:  # a user's __reduce__ submits a task itself
        dumped, another = dump(value, arguments=True)
        return dumped, another.stand_ins
    desk.busy = True
    file, pickler = desk.file, desk.pickler
    try:
        pickler.dump(value)
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
            desk.renew()  # nothing of the user's is kept alive
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
    value: Any, arguments: bool = False, by_file: bool = True, alike: Alike | None = None
) -> tuple[list[Buffer | Part], Pickler]:
    """One pickle of `value` and its large buffers; the Pickler tells what was met on the way."""
    file = io.BytesIO()
    pickler = Pickler(file, arguments)
    pickler.dump(value)
    buffers = kept([file.getvalue(), *pickler.large], alike, by_file)
    pickler.large.clear()
    return buffers, pickler


def load(buffers: Sequence[Buffer]) -> Any:
    """The value of one pickle and the large buffers behind it."""
    return pickle.loads(buffers[0], buffers=map(_writable, buffers[1:]))


def _writable(buffer: Buffer) -> Buffer:
    """A buffer that a result or an argument may be changed in, as it could be where it was made."""
    return bytearray(buffer) if memoryview(buffer).readonly else buffer
