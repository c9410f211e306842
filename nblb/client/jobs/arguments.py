"""The arguments of a job's items, by the names of the function's parameters, as they were sent."""

from __future__ import annotations

import inspect
import itertools
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nblb import payload
from nblb.payload import Packed
from nblb.protocol.messages import RunTask
from nblb.user_text import clean_name, text_of

KEPT_BYTES = 8_000_000  # most bytes of packed calls that a Job keeps in the process that submitted it
CALL_CHARS = 300
VALUE_CHARS = 1000  # most characters of a repr, before it is shortened to a line
_short = reprlib.Repr()


class JobArguments:
    """The packed calls of a map; each is unpickled when it is read.

    Parameters
    ----------
    function
        The function, for the names of its parameters.
    records
        The packed submissions, in the order of their items.
    """

    def __init__(self, function: Callable[..., Any], records: Sequence[Packed]) -> None:
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):  # functions written in C may have no signature
            self._signature = None
        self._calls = [
            payload.unpack_calls(
                RunTask(task="", attempt=0, name="", function="", payload=one.payload, items=one.items, split=one.split)
            )
            for one in records
        ]
        self._starts = list(itertools.accumulate((one.items for one in records), initial=0))

    def of(self, item: int) -> dict[str, Any] | None:
        """The arguments of an item by name; None if they cannot be loaded here."""
        number = next(n for n, start in enumerate(self._starts[1:]) if item < start)
        try:
            args, kwargs = self._calls[number][item - self._starts[number]]
        except Exception:  # a user's class may raise anything
            return None
        if self._signature is not None:
            bound = self._signature.bind_partial(*args, **kwargs)
            return dict(bound.arguments)
        return {**{f"argument {place}": value for place, value in enumerate(args)}, **kwargs}

    def text(self, item: int) -> str:
        """The arguments as in a call: 'seed=3, n=1000'; "" if they cannot be loaded here."""
        found = self.of(item)
        if not found:
            return ""
        said = ", ".join(
            f"{name}={clean_name(text_of(value, VALUE_CHARS, _short.repr))}" for name, value in found.items()
        )
        return said if len(said) <= CALL_CHARS else f"{said[:CALL_CHARS]}…"


def kept(function: Callable[..., Any], records: Sequence[Packed]) -> JobArguments | None:
    """The arguments of a map, unless they are too large to be kept beside the results."""
    nbytes = sum(one.payload.nbytes for one in records)
    return JobArguments(function, records) if nbytes <= KEPT_BYTES else None


def grid(
    signature: inspect.Signature, choices: Sequence[Iterable[Any]], named: dict[str, Iterable[Any]]
) -> list[list[Any]]:
    """The columns of a map over all combinations of these choices; the last parameter changes fastest.

    Raises
    ------
    TypeError
        A name is not a parameter that can be given by position, or a parameter without a default has no choices.
    """
    by_name = dict(zip(signature.parameters, choices, strict=False))
    for name, values in named.items():
        parameter = signature.parameters.get(name)
        if parameter is None or parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(
                f"{name!r} is not a parameter that product() can vary; there are {', '.join(signature.parameters)}"
            )
        if name in by_name:
            raise TypeError(f"{name!r} has choices by position and by name; leave out one")
        by_name[name] = values
    last = max((place for place, name in enumerate(signature.parameters) if name in by_name), default=-1)
    names = list(signature.parameters)[: last + 1]
    for name in names:
        if name not in by_name:
            default = signature.parameters[name].default
            if default is inspect.Parameter.empty:
                raise TypeError(f"{name!r} has no default and no choices; give it a list of one value")
            by_name[name] = [default]
    rows = list(itertools.product(*(list(by_name[name]) for name in names)))
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]
