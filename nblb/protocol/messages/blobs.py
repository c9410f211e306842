"""The messages that carry or request a blob: a function, a constant, or a result that is an argument."""

from __future__ import annotations

from nblb.protocol.framing import Payload
from nblb.protocol.messages.vocabulary import Message


class PutBlob(Message):
    """Store a function or a constant under its content hash; sent before the first task that names it."""

    hash: str
    payload: Payload
    name: str = ""


class BlobMissing(Message):
    """The core (or the hub) does not have this blob: send PutBlob again."""

    hash: str


class BlobWanted(Message):
    """The hub needs a blob (or the result of a task) that RunTask names. Answer: HoldBlob or BlobMissing."""

    hash: str


class HoldBlob(Message):
    """A function, a constant, or results of a task that others depend on (then `hash` is the task's id).

    The results of a task may come in several pieces: each has its items, and the number of all items (`total`). The
    result of one item, whose id is task.item, counts as number 0 of 1, so its piece may begin before it.
    """

    hash: str
    payload: Payload
    first: int = 0
    items: int = 1
    total: int = 0  # 0: a function or a constant
    holes: tuple[int, ...] = ()  # offsets in this piece whose results come in other pieces
