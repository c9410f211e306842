"""Whose turn it is: the user with the fewest occupied workers, then the least recent use, then the oldest task.

Recent use is worker time that decays exponentially (half-life LB_FAIR_HALFLIFE_S). Instead of shrinking every
user's sum as time passes, what is added grows: a second used at time t counts 2 ** (t / half-life), so the order
of two users never changes by waiting and a heap of them stays valid. (Forward decay: Cormode et al., ICDE 2009.)
When the scale gets large, all sums are rescaled.

Each band (a range of priorities that some workers take) has a heap of the users with a task for it, so that a choice
costs O(log users) however long the backlog is. The place of a user is looked after when it matters:

- Whoever gets a worker sinks, in all bands. Nothing is done about it: an entry that tells of fewer workers than the
  user has is put right when it comes to the top.
- Whatever may raise a user (a worker comes back, the line has another head) is marked in each band, and a band gives
  those who are marked new entries before its next choice; one that has no free worker does not choose.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import TypeAlias

from nblb.scheduling.backlog import UserQueue

MOST_HALFLIVES = 200.0  # then the scale starts anew, long before a float overflows
Entry: TypeAlias = "tuple[int, float, int, UserQueue]"  # occupied, usage, oldest task: no two users have the same


class Band:
    """The users with a task for workers of minP..maxP, in the order of their turns."""

    __slots__ = ("changed", "heap", "high", "low", "sweep_at")

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.heap: list[Entry] = []  # one is valid while it is `user.entries[band]`
        self.changed: dict[UserQueue, None] = {}  # those who may deserve a better place than their entry
        self.sweep_at = 64  # entries, then those that are not valid any more are dropped

    def takes(self, priority: float) -> bool:
        return self.low <= priority <= self.high

    def refresh(self) -> None:
        """Give all who were marked the places that they deserve."""
        for user in self.changed:
            oldest = user.oldest(self.low, self.high)
            if oldest is None:
                user.entries.pop(self, None)
                continue
            entry = (user.occupied, user.usage, oldest, user)
            if entry != user.entries.get(self):
                user.entries[self] = entry
                heappush(self.heap, entry)
        self.changed.clear()
        if len(self.heap) > self.sweep_at:
            self.heap = [entry for entry in self.heap if entry[3].entries.get(self) is entry]
            heapify(self.heap)
            self.sweep_at = 64 + 4 * len(self.heap)

    def first(self) -> UserQueue | None:
        """Whose turn it is; None when nobody waits."""
        if self.changed:
            self.refresh()
        heap = self.heap
        while heap:
            entry = heap[0]
            user = entry[3]
            if user.entries.get(self) is not entry:
                heappop(heap)
            elif entry[0] == user.occupied and entry[1] == user.usage:
                return user
            else:
                self.sink(user)
        return None

    def sink(self, user: UserQueue) -> None:
        """The first has got something: it stands where its new standing puts it."""
        oldest = user.oldest(self.low, self.high)
        if oldest is None:
            del user.entries[self]
            heappop(self.heap)
        else:
            user.entries[self] = entry = (user.occupied, user.usage, oldest, user)
            heapreplace(self.heap, entry)

    def pass_over(self, user: UserQueue) -> None:
        """The first, whom nothing can be given, has no turn until it is marked again."""
        del user.entries[self]
        heappop(self.heap)

    def __repr__(self) -> str:
        return f"<Band {self.low:g}..{self.high:g}>"


class FairShare:
    """Keeps the turns of all users in all bands."""

    def __init__(self, halflife_s: float) -> None:
        self.halflife_s = halflife_s
        self.users: dict[str, UserQueue] = {}
        self.bands: dict[tuple[float, float], Band] = {}
        self._origin: float | None = None

    def user(self, name: str) -> UserQueue:
        user = self.users.get(name)
        if user is None:
            user = self.users[name] = UserQueue(name)
        return user

    def band(self, low: float, high: float) -> Band:
        """The band of these bounds; a new one learns of all who wait."""
        band = self.bands.get((low, high))
        if band is None:
            band = self.bands[low, high] = Band(low, high)
            band.changed = dict.fromkeys(self.users.values())
        return band

    def changed(self, user: UserQueue) -> None:
        """The user may deserve a better place than before, or any at all."""
        for band in self.bands.values():
            band.changed[user] = None

    def charge(self, user: UserQueue, seconds: float, now: float) -> None:
        """The user has used a worker for so long, until now."""
        if self._origin is None:
            self._origin = now
        if now - self._origin > MOST_HALFLIVES * self.halflife_s:
            self._rescale(now)
        user.usage += seconds * 2.0 ** ((now - self._origin) / self.halflife_s)
        user.used_s += seconds
        self.changed(user)

    def _rescale(self, now: float) -> None:
        assert self._origin is not None
        shrink = 2.0 ** max(-1000.0, -(now - self._origin) / self.halflife_s)
        self._origin = now
        for user in self.users.values():
            user.usage *= shrink
            self.changed(user)
