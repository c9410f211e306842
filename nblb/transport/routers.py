"""Reading from the core's ROUTERs: all doors in turn, with a bound on the time spent on malformed messages.

A turn with malformed messages is followed by a rest, several times as long as they took, in which these sockets are
not read. Plain sockets (local_doors.py) are served meanwhile. The sockets' buffers fill, and the sender that floods the
core has to wait.
"""

from __future__ import annotations

import selectors
from collections.abc import Sequence
from time import monotonic

import zmq

from nblb.transport.door import Arrived, Door
from nblb.transport.sockets import MIB, TURN_MESSAGES, TURN_WORDS, frames_nbytes

TURN_BYTES = 64 * MIB
EMPTY = BlockingIOError, zmq.Again  # of either kind of ROUTER
RUN_OF_ONE_DOOR = 64  # messages read from one door before the next one's turn


class Routers:
    """The doors' ROUTERs in one selector, once they are bound and `watch`ed."""

    def __init__(self, doors: Sequence[Door]) -> None:
        self.garbage = 0
        self._doors = doors
        self._selector: selectors.BaseSelector | None = None
        self._refusing, self._refused_frames = GarbageLimits(), 0
        self._rest_until = 0.0  # 0: not resting

    def watch(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        for door in self._doors:
            selector.register(door.socket.fileno(), selectors.EVENT_READ, door)
            door.is_stirred = True  # its descriptor does not report earlier input

    def with_input(self) -> list[Door]:
        """Return the doors that have more input, whether or not their descriptors report it."""
        if self._rest_until:
            return []
        return [door for door in self._doors if door.is_stirred and self._has_input(door)]

    @staticmethod
    def _has_input(door: Door) -> bool:
        door.is_stirred = False
        return door.socket.has_input()

    def until_looked_at(self, timeout_s: float | None) -> float | None:
        """Return `timeout_s`, limited by the remaining rest; end a rest that is over."""
        if not self._rest_until:
            return timeout_s
        rest_s = self._rest_until - monotonic()
        if rest_s <= 0.0:
            assert self._selector is not None
            self._rest_until = 0.0
            self.watch(self._selector)
            return timeout_s
        return rest_s if timeout_s is None else min(timeout_s, rest_s)

    def drain(self, active: list[Door], arrived: list[Arrived]) -> None:
        """Append the messages that have arrived at these doors."""
        begun, before, had = monotonic(), self.garbage, len(arrived)
        self._drain(active, arrived, begun)
        refused = self.garbage - before
        if refused:
            now = monotonic()
            share = refused / max(refused, len(arrived) - had)
            self._rest(now + min(MOST_REST_S, REST * share * (now - begun)))

    def _rest(self, until: float) -> None:
        assert self._selector is not None
        self._rest_until = until
        for door in self._doors:
            self._selector.unregister(door.socket.fileno())

    def _drain(self, active: list[Door], arrived: list[Arrived], now: float) -> None:
        nbytes, words, most = 0, 0, len(arrived) + TURN_MESSAGES
        self._refused_frames, most_refused = 0, self.garbage + REFUSED_A_TURN
        for door in active:
            door.is_stirred = True
        while active and len(arrived) < most and nbytes < TURN_BYTES and words < TURN_WORDS:
            for door in tuple(active):
                try:
                    for _ in range(RUN_OF_ONE_DOOR):
                        more = self._read_one(door, arrived, now)
                        nbytes, words = nbytes + more[0], words + more[1]
                        if self.garbage >= most_refused or self._refused_frames >= FRAMES_A_TURN:
                            return
                        if words >= TURN_WORDS:
                            break
                except EMPTY:
                    active.remove(door)

    def _read_one(self, door: Door, arrived: list[Arrived], now: float) -> tuple[int, int]:
        """Read one multipart message, or skip it if its sender is ignored; return its bytes and number of messages."""
        identity = door.next()
        if self._refusing and self._refusing.is_ignored(identity, now):
            self.garbage += 1
            self._refused_frames += door.socket.skip()
            return 0, 0
        frames = door.socket.rest()
        one = door.read(frames)
        arrived.append(one)
        if one.error is not None:
            self.garbage += 1
            self._refused_frames += len(frames)
            if not one.sender.startswith("json-"):  # a JSON request is always answered
                self._refusing.refuse(identity, now)
        elif self._refusing:
            self._refusing.note_readable(identity)
        return frames_nbytes(frames), len(one.messages or ())


MOST_REFUSED = 32  # malformed minus valid messages of one peer, before it is ignored
PAUSE_S = 1.0  # ignored for this long; a malformed message after it starts another pause
MOST_KNOWN = 1024  # peers on record; beyond that the oldest record is dropped
REFUSED_A_TURN = 32  # malformed messages after which a turn reads no more from ROUTERs
FRAMES_A_TURN = 1024  # … or frames of malformed messages
REST = 5.0  # length of the rest, as a multiple of the time that malformed messages took: they get a sixth of the time
MOST_REST_S = 0.02  # since valid messages arrive at these doors, too


class GarbageLimits:
    """The number of malformed messages of each peer, and which peers are ignored; the clock is passed in."""

    def __init__(self) -> None:
        self._of: dict[bytes, tuple[int, float]] = {}  # count, and until when the peer is ignored

    def __bool__(self) -> bool:
        return bool(self._of)

    def is_ignored(self, peer: bytes, now: float) -> bool:
        """Return True if messages of this peer are skipped now."""
        known = self._of.get(peer)
        return known is not None and now < known[1]

    def refuse(self, peer: bytes, now: float) -> None:
        """Count a malformed message."""
        times, _ = self._of.pop(peer, (0, 0.0))
        if len(self._of) >= MOST_KNOWN:
            del self._of[next(iter(self._of))]
        times = min(times + 1, MOST_REFUSED)
        self._of[peer] = (times, now + PAUSE_S if times == MOST_REFUSED else 0.0)

    def note_readable(self, peer: bytes) -> None:
        """Count a valid message."""
        known = self._of.get(peer)
        if known is not None:
            if known[0] > 1:
                self._of[peer] = (known[0] - 1, 0.0)
            else:
                del self._of[peer]
