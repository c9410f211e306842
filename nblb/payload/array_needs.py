"""The version of NumPy that a pickle needs where it is loaded.

Pickled arrays name the module that makes them: NumPy 2 writes `numpy._core`, which NumPy 1 does not have; NumPy 1
writes `numpy.core`, which both have. The bytes of a pickle are searched for these names, which takes less time than to
track them while it is written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from nblb.protocol.framing import IN_MEMORY, Buffer, Part

_NAMES = ((b"numpy._core.", 2), (b"numpy.core.", 1))
MOST_NOTED = 10_000

_constants: dict[str, int] = {}  # hash of a constant -> what it needs, for those with arrays


def numpy_needed(buffers: Sequence[Buffer | Part], constants: Iterable[str] = ()) -> int:
    """Return the major version of NumPy that this pickle and these constants need; 0 if they have no arrays."""
    if "numpy" not in sys.modules:
        return 0
    needed = max((_constants.get(name, 0) for name in constants), default=0)
    head = buffers[0] if buffers else b""
    if not isinstance(head, IN_MEMORY):
        return needed
    found = head if isinstance(head, bytes) else bytes(head)
    if b"numpy" not in found:
        return needed
    return max(needed, next((major for name, major in _NAMES if name in found), 0))


def note_constant(name: str, buffers: Sequence[Buffer | Part]) -> None:
    """Remember what a constant needs, for the tasks that get it."""
    needed = numpy_needed(buffers)
    if needed:
        if len(_constants) >= MOST_NOTED:
            del _constants[next(iter(_constants))]
        _constants[name] = needed
