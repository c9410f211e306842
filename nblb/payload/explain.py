"""Explains why a value cannot be pickled, by the path to the part to blame: 'argument 2.model.lock'."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from nblb.errors import NotSerializable
from nblb.payload.pickling import dump
from nblb.payload.project import goes_by_name
from nblb.payload.reach import Reach, names_in
from nblb.user_text import kind_of, text_of

MAX_DEPTH = 12
MAX_PARTS = 2000
MAX_REASON = 500

_HINTS = {
    "lock": "a lock belongs to this process; make it inside the function",
    "RLock": "a lock belongs to this process; make it inside the function",
    "generator": "a generator cannot travel; pass a list of its items",
    "TextIOWrapper": "an open file belongs to this process; pass its path and open it inside the function",
    "BufferedReader": "an open file belongs to this process; pass its path and open it inside the function",
    "BufferedWriter": "an open file belongs to this process; pass its path and open it inside the function",
    "socket": "a connection belongs to this process; open it inside the function",
    "Connection": "a connection belongs to this process; open it inside the function",
    "module": "a module made at run time cannot be found by a hub; import it inside the function",
}


def explain_unpicklable(value: Any, name: str = "value", arguments: bool = False, in_module: bool = False) -> str:
    """Return a sentence that names the first part of `value` that cannot be pickled; '' if all of it can.

    With `in_module`, the value belongs to a module, whose locks and similar objects are made anew.
    """
    error = _error(value, arguments, in_module)
    if error is None:
        return ""
    path, culprit, seen = name, value, {id(value)}
    for _ in range(MAX_DEPTH):
        try:
            part = _bad_part(culprit, seen, arguments, in_module)
        except BaseException:  # a user's object may raise when it is inspected
            break
        if part is None:
            break
        step, culprit, error = part
        seen.add(id(culprit))
        path += step if step.startswith((".", "[")) else f" -> {step}"
    hint = _HINTS.get(kind_of(culprit))
    reason = text_of(error, MAX_REASON).strip().rstrip(".") or kind_of(error)
    return f"{path} cannot be pickled: {reason}" + (f" ({hint})" if hint else "")


def leave_out(reach: Reach, what: str) -> bool:
    """Mark the members of modules that cannot be pickled as absent; return True if there were any.

    Raises
    ------
    NotSerializable
        One of them is required.
    """
    found = False
    for module in reach.modules:
        for name, value, required in reach.members(module):
            if isinstance(value, (types.ModuleType, types.FunctionType)) or (id(module), name) in reach.absent:
                continue
            why = _in_member(value, f"{module.__name__}.{name}")
            if why and required:
                raise NotSerializable(f"{what} -> {why}")
            if why:
                reach.absent[id(module), name] = why
                found = True
    return found


def _in_member(value: Any, name: str) -> str:
    if not isinstance(value, type):
        return explain_unpicklable(value, name, in_module=True)
    if goes_by_name(value):
        return ""
    parts = ((step, part) for step, part in _parts(value) if not isinstance(part, types.FunctionType))
    whys = (explain_unpicklable(part, name + step, in_module=True) for step, part in parts if not _is_slot(part))
    return next(filter(None, whys), "")


def _is_slot(part: Any) -> bool:
    return isinstance(part, (types.MemberDescriptorType, types.GetSetDescriptorType))


def _error(value: Any, arguments: bool, in_module: bool) -> BaseException | None:
    try:
        dump(value, arguments, by_file=False, in_module=in_module)
    except BaseException as error:
        return error
    return None


def _bad_part(value: Any, seen: set[int], arguments: bool, in_module: bool) -> tuple[str, Any, BaseException] | None:
    for number, (step, part) in enumerate(_parts(value)):
        if number >= MAX_PARTS:
            return None
        if id(part) in seen:
            continue
        error = _error(part, arguments, in_module)
        if error is not None:
            return step, part, error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the direct parts of a value, each with the text of the path to it."""
    if isinstance(value, types.FunctionType):
        yield from _captured(value)
    elif isinstance(value, types.MethodType):
        yield "its object", value.__self__
        yield "its function", value.__func__
    elif isinstance(value, dict):
        for key, part in value.items():
            shown = text_of(key, 80, repr)
            yield f"[{shown}]", part
            yield f"key {shown}", key
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, part in enumerate(value):
            yield (f"[{number}]" if isinstance(value, (list, tuple)) else "an element"), part
    elif isinstance(value, type):
        for key, part in list(vars(value).items()):
            is_of_python = key.startswith("__") or key == "_abc_impl" or _is_slot(part)
            if not is_of_python or isinstance(part, types.FunctionType):
                yield f".{key}", part
    else:
        yield from _attributes(value)


def _captured(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name in sorted(names_in(function.__code__)[0]):
        if name in function.__globals__ and name != "__builtins__":
            yield f"global {name!r}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"captured {name!r}", cell.cell_contents
        except ValueError:  # the cell is empty
            continue
    for number, default in enumerate(function.__defaults__ or (), 1):
        yield f"default {number}", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f"default of {name!r}", default


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    try:
        state = dict(vars(value))
    except TypeError:
        state = {}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, slot):
                state.setdefault(slot, getattr(value, slot))
    for name, part in state.items():
        yield f".{name}", part
