"""What waits for one peer that does not take it now."""

from __future__ import annotations

from collections import deque

from nblb.protocol.framing import Buffer

RETRY_S = (0.001, 0.2)  # how soon a slow peer of ZeroMQ is tried again, at first and at last


class Outbox:
    """What a slow peer has not taken yet, in order."""

    __slots__ = ("nbytes", "pause_s", "try_at", "waiting", "withheld")

    def __init__(self, now: float) -> None:
        self.waiting: deque[tuple[list[Buffer], int]] = deque()
        self.nbytes = 0
        self.pause_s = RETRY_S[0]
        self.try_at = now + self.pause_s
        self.withheld = False
