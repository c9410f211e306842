"""Variables of a failed call as pickled values, for the debugger to load later and elsewhere.

Each value is a pickle of its own, so that one that cannot be loaded affects no other. A value that is too large, has
a part named like a secret, or cannot be pickled stays text, as frames.py writes it. The core keeps failures in memory,
so the bounds are small. No value is loaded until a user asks for it (client/debug/post_mortem.py).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from itertools import islice
from typing import Any

from nblb.payload.pickling import Pickler

MAX_VARIABLE = 512 * 1024  # bytes of one value
MAX_VALUES = 1024 * 1024  # bytes of all values of one failure
LOOKED_AT = 100  # keys and attributes that are checked for the names of secrets


class _TooLarge(Exception):
    pass


class _Limited(io.BytesIO):
    """A file that stops the pickling of a value that is too large."""

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
    """nblb's Pickler with buffers in band; it checks the size of each buffer before it copies it."""

    def __init__(self, file: io.BytesIO, most: int) -> None:
        self._most = most
        super().__init__(file)

    def _keep_out(self, buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes > self._most:
            raise _TooLarge
        return True


def pack_value(value: Any, left: int, is_secret: Callable[[str], bool]) -> bytes | None:
    """Return the pickle of a value, or None for one that stays text."""
    most = min(left, MAX_VARIABLE)
    try:
        size = getattr(value, "nbytes", 0)  # of arrays and similar objects: a strided one would be copied
        if most <= 0 or (isinstance(size, int) and size > most) or _names_secret(value, is_secret):
            return None
        return limited_pickle(value, most)
    except BaseException:  # it cannot be pickled, is too large, or raises anything
        return None


def limited_pickle(value: Any, most: int) -> bytes:
    """Return one pickle with its buffers in band, of at most `most` bytes; raise any error of pickling."""
    file = _Limited(most)
    _InBand(file, most).dump(value)
    return file.getvalue()


def _names_secret(value: Any, is_secret: Callable[[str], bool]) -> bool:
    names: Any = value if isinstance(value, dict) else getattr(value, "__dict__", ())
    parts = list(islice(names.items(), LOOKED_AT)) if isinstance(names, dict) else []
    inner = [key for _, part in parts if isinstance(part, dict) for key in islice(part, LOOKED_AT)]
    return any(isinstance(name, str) and is_secret(name) for name in [*(name for name, _ in parts), *inner])


def load_value(data: bytes) -> Any:
    """Load the value; this imports and runs code that its pickle names, so call it only at the user's request."""
    return pickle.loads(data)
