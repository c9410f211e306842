"""The arguments of a call in a few characters: lists of jobs and tasks show them, and nothing is computed from them.

They are made when a call is submitted, since the core drops the arguments of a finished call and never unpickles them.
Only values of built-in types are shown; of other objects only the class, because their repr may take any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nblb.user_text import clean_name, kind_of

MOST = 80  # characters of all arguments
TEXT = 24  # characters of a text
ITEMS = 3  # of a list, tuple, set or dict
LONG_INT = 10**18  # an int's repr takes time in the square of its length

_plain = (float, bool, complex, type(None))
_brackets: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
    dict: ("{", "}"),
}


def short(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as in a call, such as "3, n=10"."""
    shown = ", ".join([*map(_value, args), *(f"{name}={_value(value)}" for name, value in kwargs.items())])
    text = clean_name(shown)
    return text if len(text) <= MOST else f"{text[:MOST]}…"


def _value(value: Any, depth: int = 0) -> str:
    kind = type(value)
    if kind is int:
        return repr(value) if -LONG_INT < value < LONG_INT else f"<int of {value.bit_length():,} bits>"
    if kind in _plain:
        return repr(value)
    if kind is str or kind is bytes:
        return repr(value) if len(value) <= TEXT else f"{value[:TEXT]!r}…"
    if kind in _brackets:
        return _container(value, depth)
    shape = getattr(value, "shape", None) if kind.__module__ == "numpy" else None
    if isinstance(shape, tuple) and shape:
        return f"<{kind_of(value)} {' × '.join(map(str, shape))}>"
    if kind.__module__ == "numpy" and shape == ():  # a number of numpy
        return repr(value.item())
    name = getattr(value, "__qualname__", None) if callable(value) else None
    return name if type(name) is str else f"<{kind_of(value)}>"


def _container(value: Any, depth: int) -> str:
    kind = type(value)
    if depth and value:
        return f"<{kind.__name__} of {len(value):,}>"
    few = list(zip(range(ITEMS), value, strict=False))
    if kind is dict:
        shown = [f"{_value(key, 1)}: {_value(value[key], 1)}" for _, key in few]
    else:
        shown = [_value(item, 1) for _, item in few]
    left, right = _brackets[kind]
    more = [f"… {len(value) - ITEMS:,} more"] if len(value) > ITEMS else []
    comma = "," if kind is tuple and len(value) == 1 else ""
    return f"{left}{', '.join([*shown, *more])}{comma}{right}"
