"""Parts of a class that cloudpickle leaves out: slots, and the aliases and attributes of an enum's members."""

from __future__ import annotations

import enum
import types
from collections.abc import Callable
from typing import Any

_OF_ENUM = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})


def mended(cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return cloudpickle's reduction of a class, completed with the parts that it leaves out.

    Parameters
    ----------
    cls
        The class.
    reduced
        cloudpickle's reduction: (rebuild, its arguments, state, None, None, the function that sets the state).

    Returns
    -------
    tuple
        The same three and the function for the state.
    """
    rebuild, args, state, _, _, set_state = reduced
    if isinstance(cls, enum.EnumMeta):
        return _enumeration(cls, rebuild, args, state, set_state)
    if "__slots__" not in vars(cls) or issubclass(cls, tuple):  # named tuples do not allow it
        return rebuild, args, state, set_state
    members, rest = state
    own = {name for name, part in vars(cls).items() if isinstance(part, types.MemberDescriptorType)}
    members = {name: part for name, part in members.items() if name not in own and name != "__slots__"}
    kind, name, bases, keywords, *more = args
    slots = vars(cls)["__slots__"]
    keywords = {**keywords, "__slots__": slots if isinstance(slots, (str, dict)) else tuple(slots)}
    return rebuild, (kind, name, bases, keywords, *more), (members, rest), set_state


def _enumeration(
    cls: enum.EnumMeta, rebuild: Callable[..., Any], args: tuple[Any, ...], state: Any, set_state: Callable[..., Any]
) -> tuple[Any, ...]:
    """Add aliases as members, and the attributes that `__init__` has set on members, since it is not called again."""
    bases, name, qualname, _, *more = args
    members = {alias: each.value for alias, each in dict[str, enum.Enum](cls.__members__).items()}
    parts, rest = state
    parts = {each: part for each, part in parts.items() if each not in members}
    given: dict[str, dict[str, Any]] = {}
    member: enum.Enum
    for member in cls.__members__.values():
        attributes = {key: value for key, value in vars(member).items() if key not in _OF_ENUM}
        if attributes:
            given[member.name] = attributes
    return rebuild, (bases, name, qualname, members, *more), (set_state, (parts, rest), given), set_enumeration


def set_enumeration(cls: Any, state: tuple[Callable[..., Any], Any, dict[str, dict[str, Any]]]) -> None:
    """Set an enum's state as cloudpickle does, and the attributes of its members."""
    set_state, parts, given = state
    set_state(cls, parts)
    for name, attributes in given.items():
        vars(cls[name]).update(attributes)
