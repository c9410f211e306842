"""An inventory of the things that would travel with a call: each with its name, kind, size and hash."""

from __future__ import annotations

import dis
import hashlib
import importlib.metadata
import importlib.util
import io
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nblb.payload.functions import dump_function
from nblb.payload.pickling import Pickler, dump
from nblb.payload.project import project_modules
from nblb.payload.reach import Reach, names_in
from nblb.protocol.blob_names import content_hash

BY_VALUE, BY_HASH, HUBS_OWN = "by value", "by content hash", "the hub's own"


class Item(NamedTuple):
    """One thing that a task needs: a function, module, package or value."""

    name: str
    kind: str  # "function", "module", "package", "import in the body", or the type of a value
    how: str  # BY_VALUE with each call, BY_HASH with the function, once to each hub, or HUBS_OWN
    nbytes: int = 0
    hash: str = ""


def inventory(
    function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> list[Item]:
    """Return the things that travel with a call of the function, and the packages that a hub must have.

    Parameters
    ----------
    function
        The function of the task.
    args, kwargs
        The arguments of the call.

    Returns
    -------
    list of Item
        The function first, with the size and hash of everything that travels with it; then captured values and
        modules; then packages; then arguments.

    Raises
    ------
    NotSerializable
        The function cannot be pickled; the message names the part to blame.
    """
    blob, dumped = dump_function(function)
    reach = Reach(function)
    found = [Item(getattr(function, "__name__", type(function).__name__), "function", BY_HASH, dumped.nbytes, blob)]
    found += [_value(name, value, BY_HASH) for name, value in _captured(function)]
    codes: set[types.CodeType] = set()
    packages: set[str] = set()
    for module in reach.modules:
        found.append(_module(module, reach))
    noting = _NamesOf(io.BytesIO(), reach=reach)
    noting.dump(function)
    packages |= noting.by_name
    codes |= noting.code
    found += _packages(packages)
    found += [
        Item(name, "import in the body", HUBS_OWN)
        for name in sorted(_imports(codes) - packages - {module.__name__ for module in reach.modules})
    ]
    found += [_value(f"argument {number}", value, BY_VALUE) for number, value in enumerate(args, 1)]
    return found + [_value(f"argument {name!r}", value, BY_VALUE) for name, value in (kwargs or {}).items()]


def missing_modules(names: Sequence[str]) -> list[str]:
    """Return those of these modules that this process cannot import."""
    return [name for name in names if not _can_be_found(name)]


def _can_be_found(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _captured(function: Any) -> Iterator[tuple[str, Any]]:
    """Return the values that a function of a cell captures, except those that are imported by name."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        yield name, cell.cell_contents
    if project_modules.of_globals(function.__globals__) is None:
        for name in sorted(names_in(function.__code__)[0] & function.__globals__.keys()):
            value = function.__globals__[name]
            if not isinstance(value, types.ModuleType) and name != "__builtins__":
                yield name, value


def _value(name: str, value: Any, how: str) -> Item:
    stand_in = value.__nblb_argument__() if hasattr(type(value), "__nblb_argument__") else None
    if stand_in is not None:
        return Item(
            name, type(value).__name__, BY_HASH, int(getattr(value, "nbytes", 0)), getattr(stand_in, "hash", "")
        )
    buffers, _ = dump(value, by_file=False)
    kind = "function" if isinstance(value, types.FunctionType) else "class" if isinstance(value, type) else ""
    sizes = [memoryview(buffer).nbytes for buffer in buffers]  # type: ignore[arg-type]  # none is in a file
    return Item(name, kind or type(value).__name__, how, sum(sizes), content_hash(buffers))  # type: ignore[arg-type]


def _module(module: types.ModuleType, reach: Reach) -> Item:
    """Return the item of a module, with the size of its members that travel, without other modules."""
    file = io.BytesIO()
    alone = _Alone(file, reach=reach)
    alone.only = module
    alone.dump(module)
    large = [memoryview(buffer).nbytes for buffer in alone.large]
    digest = hashlib.blake2b(file.getvalue(), digest_size=16)
    for buffer in alone.large:
        digest.update(buffer)
    return Item(module.__name__, "module", BY_HASH, len(file.getvalue()) + sum(large), digest.hexdigest())


class _NamesOf(Pickler):
    """A Pickler that records the modules to which it refers by name."""

    def __init__(self, file: io.BytesIO, reach: Reach) -> None:
        super().__init__(file, reach=reach)
        self.by_name: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented:
            name = obj.__name__ if isinstance(obj, types.ModuleType) else getattr(obj, "__module__", None)
            self.by_name.update([name] if isinstance(name, str) else [type(obj).__module__])
        return reduced


class _Alone(Pickler):
    """A Pickler for one module; it writes other modules as names."""

    only: types.ModuleType | None = None

    def _module(self, obj: types.ModuleType) -> Any:
        return super()._module(obj) if obj is self.only else (str, (obj.__name__,))


def _packages(modules: set[str]) -> list[Item]:
    """Return the installed packages with their versions, except Python's and nblb's own, which every hub has."""
    known = sys.stdlib_module_names | {"nblb", "__main__", "cloudpickle"}
    names = sorted({module.partition(".")[0] for module in modules} - known)
    return [Item(f"{name} {_version(name)}".strip(), "package", HUBS_OWN) for name in names]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", ""))


def _imports(codes: set[types.CodeType]) -> set[str]:
    """Return the modules that the code imports when it runs."""
    found = set()
    for code in codes:
        instructions = list(dis.get_instructions(code))
        found |= {str(each.argval) for each in instructions if each.opname == "IMPORT_NAME" and each.argval}
    return {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names | {"nblb"}}
