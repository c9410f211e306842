"""Whose turn it is: the user with the fewest occupied workers, then the least recent use, then the oldest task.

Recent use is worker time that decays exponentially (half-life LB_FAIR_HALFLIFE_S). Instead of shrinking every
user's sum as time passes, what is added grows: a second used at time t counts 2 ** (t / half-life), so the order
of two users never changes by waiting and a heap of them stays valid. (Forward decay: Cormode et al., ICDE 2009.)
When the scale gets large, all sums are rescaled.

Each band (a range of priorities that some workers take) has a heap of the users with a task for it. An entry is
valid while `user.entries[band]` is that very entry; a user whose standing changed is marked, and gets a new entry
before the next choice. So a choice costs O(log users) however long the backlog is.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from nblb.scheduling.backlog import UserQueue

MOST_HALFLIVES = 200.0  # then the scale starts anew, long before a float overflows


class Band:
    """The users with a task for workers of minP..maxP, in the order of their turns."""

    __slots__ = ("heap", "high", "low")

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.heap: list[tuple[int, float, int, int, UserQueue]] = []

    def takes(self, priority: float) -> bool:
        return self.low <= priority <= self.high

    def __repr__(self) -> str:
        return f"<Band {self.low:g}..{self.high:g}>"


class FairShare:
    """Keeps the turns of all users in all bands."""

    def __init__(self, halflife_s: float) -> None:
        self.halflife_s = halflife_s
        self.users: dict[str, UserQueue] = {}
        self.bands: dict[tuple[float, float], Band] = {}
        self._changed: dict[UserQueue, None] = {}
        self._entry_number = 0
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
            for user in self.users.values():
                self._changed[user] = None
        return band

    def changed(self, user: UserQueue) -> None:
        """The user's standing or line has changed since the last choice."""
        self._changed[user] = None

    def charge(self, user: UserQueue, seconds: float, now: float) -> None:
        """The user has used a worker for so long, until now."""
        if self._origin is None:
            self._origin = now
        if now - self._origin > MOST_HALFLIVES * self.halflife_s:
            self._rescale(now)
        user.usage += seconds * 2.0 ** ((now - self._origin) / self.halflife_s)
        user.used_s += seconds
        self._changed[user] = None

    def _rescale(self, now: float) -> None:
        assert self._origin is not None
        shrink = 2.0 ** max(-1000.0, -(now - self._origin) / self.halflife_s)
        self._origin = now
        for user in self.users.values():
            user.usage *= shrink
            self._changed[user] = None

    def refresh(self) -> None:
        """Give all whose standing changed their new places."""
        bands = self.bands.values()
        for user in self._changed:
            for band in bands:
                oldest = user.oldest(band.low, band.high)
                if oldest is None:
                    user.entries.pop(band, None)
                    continue
                self._entry_number += 1
                entry = (user.occupied, user.usage, oldest, self._entry_number, user)
                user.entries[band] = entry
                heappush(band.heap, entry)
                if len(band.heap) > 64 + 4 * len(self.users):
                    band.heap = [e for e in band.heap if e[4].entries.get(band) is e]
                    heapify(band.heap)
        self._changed.clear()

    def next_user(self, band: Band) -> UserQueue | None:
        """Whose turn it is at a free worker of this band; None when nobody waits for one."""
        if self._changed:
            self.refresh()
        heap = band.heap
        while heap:
            user = heap[0][4]
            if user.entries.get(band) is heap[0]:
                return user
            heappop(heap)
        return None
