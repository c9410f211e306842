"""Loads what can be loaded of a pickled list of results in which some results raise when they are loaded.

The results of a slice are one pickle, which is fast and keeps classes that travel by value only once. Loading it stops
at the first object that raises: a class that is not installed here, a `__setstate__` with a bug. This module then loads
the pickle again, in Python, operation by operation. It puts a NotLoaded in the place of each object that raises, and
records which operations built which item of a list, so that only the items with such an object are lost.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

from nblb.protocol.framing import Buffer

MOST_LOOKED_AT = 1000  # objects inside a shared one that are searched for a lost part
_MARKS = {pickle.APPENDS[0], pickle.SETITEMS[0], pickle.ADDITEMS[0]}
_GETS = {pickle.GET[0], pickle.BINGET[0], pickle.LONG_BINGET[0]}
_CALLS = {pickle.REDUCE[0]: 2, pickle.NEWOBJ[0]: 2, pickle.NEWOBJ_EX[0]: 3, pickle.BUILD[0]: 2}  # operands
_NAMES = {pickle.GLOBAL[0], pickle.STACK_GLOBAL[0]}
_FILLS = {*_MARKS, pickle.APPEND[0], pickle.SETITEM[0]}


class NotLoaded:
    """The place of a result, or of a part of one, that raised `error` when it was loaded."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Salvage(pickle._Unpickler):
    """An unpickler that continues after an object that raises; `spans` tells which operations built which list item."""

    def __init__(self, file: io.BytesIO, buffers: Iterable[Buffer]) -> None:
        super().__init__(file, buffers=buffers)
        self.errors: list[tuple[int, BaseException]] = []  # number of the operation, and what it raised
        self.spans: dict[int, list[tuple[int, int]]] = {}  # by id of a list: first and last operation of each item
        self._number = 0
        self._reached: list[dict[int, int]] = [{}]  # for each mark: length of the stack -> the latest operation there
        self.metastack: list[list[Any]]
        self.stack: list[Any]

    def perform(self, code: int, operation: Callable[[Any], None]) -> None:
        """Perform one operation of the pickle."""
        self._number += 1
        stack = self.stack
        if code in (pickle.APPENDS[0], pickle.APPEND[0]):
            self._note_items(code)
        operands = _CALLS.get(code, 0)
        lost = stack[-operands] if operands else None
        if isinstance(lost, NotLoaded):  # its class, its constructor or the object itself raised before
            del stack[1 - operands :]
            self.errors.append((self._number, lost.error))
        else:
            self._attempt(code, operation, len(stack) - operands)
        if code == pickle.EMPTY_LIST[0]:
            self.spans.pop(id(self.stack[-1]), None)  # of a list that is gone
        elif code in _GETS and self.errors and (found := _lost_part(self.stack[-1])) is not None:
            self.errors.append((self._number, found.error))
        depth = len(self.metastack) + 1
        if depth > len(self._reached):
            self._reached.append({})
        del self._reached[depth:]
        self._reached[-1][len(self.stack)] = self._number

    def _attempt(self, code: int, operation: Callable[[Any], None], base: int) -> None:
        try:
            operation(self)
        except (pickle._Stop, KeyboardInterrupt):  # type: ignore[attr-defined]
            raise
        except BaseException as error:  # whatever a user's class raises
            if code not in _CALLS and code not in _NAMES and code not in _FILLS:
                raise
            self.errors.append((self._number, error))
            if code in _CALLS:
                del self.stack[base:]
            if code not in _FILLS:  # else the container stays, without what it refuses
                self.stack.append(NotLoaded(error))

    def _note_items(self, code: int) -> None:
        """Record which operations built the items that are about to be appended to a list."""
        reached, height = self._reached[-1], len(self.stack)
        if code == pickle.APPEND[0]:
            target, first = self.stack[-2], height - 1
        else:
            target, first = self.metastack[-1][-1], 0
        spans = self.spans.setdefault(id(target), [])
        spans += [(reached[n], reached[n + 1]) for n in range(first, height)]


def _performed(code: int, operation: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda unpickler: unpickler.perform(code, operation)


_Salvage.dispatch = {code: _performed(code, operation) for code, operation in pickle._Unpickler.dispatch.items()}


def salvage(buffers: Iterable[Buffer]) -> list[Any]:
    """Return the list of results in these buffers, with NotLoaded in place of each result that raises.

    Raises
    ------
    BaseException
        What loading raises outside any result.
    """
    head, *large = buffers
    unpickler = _Salvage(io.BytesIO(bytes(head)), large)
    results = unpickler.load()
    spans = unpickler.spans.get(id(results), [])
    lost = 0
    for number, (after, last) in enumerate(spans if type(results) is list and len(spans) == len(results) else ()):
        error = next((error for at, error in unpickler.errors if after < at <= last), None)
        if error is not None:
            results[number] = NotLoaded(error)
            lost += 1
    if unpickler.errors and not lost:
        raise unpickler.errors[0][1]
    found: list[Any] = results
    return found


def _lost_part(value: Any) -> NotLoaded | None:
    """Return a NotLoaded in this object that the pickle refers to again, looking into containers and attributes."""
    stack, seen = [value], set[int]()
    while stack and len(seen) < MOST_LOOKED_AT:
        one = stack.pop()
        if isinstance(one, NotLoaded):
            return one
        if id(one) in seen:
            continue
        seen.add(id(one))
        if type(one) in (list, tuple, set, frozenset):
            stack += one
        elif type(one) is dict:
            stack += [*one.keys(), *one.values()]
        elif type(getattr(one, "__dict__", None)) is dict and not isinstance(one, type):
            stack += vars(one).values()
    return None
