"""How little of a turn those get who send what nobody can read.

To find out that a message is nothing costs as much as to read a good one, so a flood of them would have the core to
itself. A turn therefore ends early once it has met enough of them, and is followed by a rest; who sends little else is
not read for a while.
"""

from __future__ import annotations

MOST_REFUSED = 32  # messages of one peer that were nothing, beyond those that were something, before it is not read
PAUSE_S = 1.0  # for so long; then its next message shows whether it has come to its senses
MOST_KNOWN = 1024  # peers that are remembered; beyond that the oldest have a clean sheet
REFUSED_A_TURN = 32  # messages, before what else waits at ZeroMQ's doors has to wait for the next turn
FRAMES_A_TURN = 1024  # … or frames of such messages
REST = 5.0  # times what such messages took of a turn: that long ZeroMQ's doors are left alone, so they get a sixth
MOST_REST_S = 0.02  # for others come through them, too


class GarbageLimits:
    """Who has sent how much that was nothing; the clock is passed in."""

    def __init__(self) -> None:
        self._of: dict[bytes, tuple[int, float]] = {}  # how much, and until when the peer is not read

    def __bool__(self) -> bool:
        return bool(self._of)

    def is_ignored(self, peer: bytes, now: float) -> bool:
        """Whether nothing of this peer is to be read now."""
        known = self._of.get(peer)
        return known is not None and now < known[1]

    def refuse(self, peer: bytes, now: float) -> None:
        """It has sent one more that was nothing."""
        times, _ = self._of.pop(peer, (0, 0.0))
        if len(self._of) >= MOST_KNOWN:
            del self._of[next(iter(self._of))]
        times = min(times + 1, MOST_REFUSED)
        self._of[peer] = (times, now + PAUSE_S if times == MOST_REFUSED else 0.0)

    def hear(self, peer: bytes) -> None:
        """It has said something that can be read."""
        known = self._of.get(peer)
        if known is not None:
            if known[0] > 1:
                self._of[peer] = (known[0] - 1, 0.0)
            else:
                del self._of[peer]
