"""Variables of a failed call as real values, as far as they may and can travel: for the debugger, later and elsewhere.

Each is a pickle of its own, so that one that cannot be loaded takes no other with it. What is too large, holds what is
called like a secret, or cannot be pickled stays the text that frames.py writes. Failures are kept in the core's
memory, so the bounds are small. Nothing here is loaded before somebody asks for it (client/debug/post_mortem.py).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from itertools import islice
from typing import Any

from nblb.payload.pickling import Pickler

MAX_VARIABLE = 512 * 1024  # bytes of one value
MAX_VALUES = 1024 * 1024  # of all of one failure
LOOKED_AT = 100  # keys and attributes that are looked through for the names of secrets


class _TooLarge(Exception):
    pass


class _Limited(io.BytesIO):
    """A file that ends the pickling of what is too large early."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._left -= view.nbytes
        if self._left < 0:
            raise _TooLarge
        return super().write(view)


class _InBand(Pickler):
    """nblb's Pickler with its buffers inside, which looks at the size of each before it copies it."""

    def __init__(self, file: io.BytesIO, most: int) -> None:
        self._most = most
        super().__init__(file)

    def _keep_out(self, buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes > self._most:
            raise _TooLarge
        return True


def pack_value(value: Any, left: int, is_secret: Callable[[str], bool]) -> bytes | None:
    """The pickle of a value, None for one that stays a text."""
    most = min(left, MAX_VARIABLE)
    try:
        size = getattr(value, "nbytes", 0)  # arrays, and what is like them: a strided one would be copied to be pickled
        if most <= 0 or (isinstance(size, int) and size > most) or _names_secret(value, is_secret):
            return None
        return limited_pickle(value, most)
    except BaseException:  # it has no pickle, is too large, or raises whatever it likes
        return None


def limited_pickle(value: Any, most: int) -> bytes:
    """One pickle with its buffers inside, of so many bytes at most; raises what pickling it raises."""
    file = _Limited(most)
    _InBand(file, most).dump(value)
    return file.getvalue()


def _names_secret(value: Any, is_secret: Callable[[str], bool]) -> bool:
    names: Any = value if isinstance(value, dict) else getattr(value, "__dict__", ())
    parts = list(islice(names.items(), LOOKED_AT)) if isinstance(names, dict) else []
    inner = [key for _, part in parts if isinstance(part, dict) for key in islice(part, LOOKED_AT)]
    return any(isinstance(name, str) and is_secret(name) for name in [*(name for name, _ in parts), *inner])


def load_value(data: bytes) -> Any:
    """The value; this imports and runs what its pickle names, so only somebody who wants to look calls it."""
    return pickle.loads(data)
