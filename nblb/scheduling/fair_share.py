"""Fair share: the turn of the user with the fewest occupied workers, then least recent use, then the oldest slice.

Recent use is worker time that decays exponentially (half-life LB_FAIR_HALFLIFE_S). Instead of decreasing every user's
sum as time passes, later additions count more: a second used at time t adds 2 ** (t / half-life), so waiting never
changes the order of two users, and a sorted line of users stays sorted. (Forward decay: Cormode et al., ICDE 2009.)
When the scale gets large, all sums are rescaled.

Each band (a range of priorities that some workers take) has a sorted line of the users with a slice for it. A choice
reads its head, however long the backlog is. A user who gets a worker nearly always moves to the end, else to a place
found with O(log users) comparisons. (A heap needs as many at every choice.) Places are updated lazily:

- A user who gets a worker moves back in all bands. No entry is updated for that: an entry with fewer workers than the
  user has is corrected when it reaches the head.
- A change that may move a user forward (a worker comes back, the user's line has another head) marks the user in each
  band concerned, and the band replaces marked entries before its next choice. A band without capacity never chooses.

An entry also contains the user's next slice, so that a choice needs no second lookup.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from itertools import islice

from nblb.scheduling.backlog import Entry, UserQueue
from nblb.scheduling.slice import Slice

ALL: frozenset[str] = frozenset()  # as the users of a band: no restriction
MOST_HALFLIVES = 200.0  # after that the sums are rescaled, long before a float overflows


class Band:
    """The users with a slice for workers of minP..maxP, in the order of their turns; `only`: of no other users."""

    __slots__ = ("changed", "entries", "high", "line", "low", "only", "share")

    def __init__(self, low: float, high: float, share: FairShare, only: frozenset[str] = ALL) -> None:
        self.low, self.high, self.only = low, high, only
        self.share = share
        self.line: list[Entry] = []  # sorted
        self.entries: dict[UserQueue, Entry] = {}  # the valid ones of the line
        self.changed: dict[UserQueue, None] = {}  # users who may have moved forward

    @property
    def breadth(self) -> tuple[float, bool]:
        """A key that sorts narrow bands first, and of equal ones those of some users only."""
        return self.high - self.low, not self.only

    def takes(self, priority: float) -> bool:
        return self.low <= priority <= self.high

    def admits(self, user: str) -> bool:
        """Return whether the owners of these workers' hubs let tasks of this user run on them."""
        return not self.only or user in self.only

    def refresh(self) -> None:
        """Update the entries of all marked users."""
        self.share.mark_bands()
        entries, line = self.entries, self.line
        if self.only:
            self.changed = {user: None for user in self.changed if user.name in self.only}
        few = 4 * len(self.changed) < len(entries)  # else sorting all of them again is cheaper
        for user in self.changed:
            entry = user.turn(self)
            if entry is None:
                entries.pop(user, None)
            elif not few:
                entries[user] = entry
            elif entry != entries.get(user):
                entries[user] = entry
                insort(line, entry)
        self.changed.clear()
        if not few or len(line) > 64 + 4 * len(entries):
            self.line = sorted(entries.values())

    def first(self) -> Entry | None:
        """Return the entry whose turn it is; None when nothing waits for the band."""
        if self.changed or self.share.changed:
            self.refresh()
        line, entries = self.line, self.entries
        while line:
            entry = line[0]
            occupied, usage, _, user, _ = entry
            if entries.get(user) is not entry:
                del line[0]
            elif occupied == user.occupied and usage == user.usage:
                return entry
            else:
                self.put_right(user)
        return None

    def equals(self, most: int) -> Iterator[Slice]:
        """Yield the next slices of up to `most` other users with as few workers as the first."""
        line = self.line
        fewest = line[0][0]
        for entry in islice(line, 1, most + 1):
            occupied, _, _, user, task = entry
            if occupied != fewest:
                return
            if user.occupied == occupied and self.entries.get(user) is entry:
                yield task

    def of_fewer(self, user: UserQueue, most: int) -> Iterator[Slice]:
        """Yield the next slices of up to `most` users with fewer workers than this one."""
        if self.first() is None:
            return
        for entry in islice(self.line, most):
            _, _, _, other, task = entry
            if other.occupied < user.occupied and self.entries.get(other) is entry:
                yield task

    def put_right(self, user: UserQueue) -> None:
        """Move this user, the first of the line, to its new place after it was assigned a worker."""
        line = self.line
        del line[0]
        entry = user.turn(self)
        if entry is None:
            del self.entries[user]
            return
        self.entries[user] = entry
        if line and entry < line[-1]:
            insort(line, entry)
        else:  # nearly always, when all users have equally many workers
            line.append(entry)

    def pass_over(self, user: UserQueue) -> None:
        """Remove the first user, to whom nothing can be assigned, until the user is marked again."""
        del self.entries[user]
        del self.line[0]

    def __repr__(self) -> str:
        return f"<Band {self.low:g}..{self.high:g}{' of ' if self.only else ''}{', '.join(sorted(self.only))}>"


class FairShare:
    """The turns of all users in all bands."""

    def __init__(self, halflife_s: float) -> None:
        self.halflife_s = halflife_s
        self.users: dict[str, UserQueue] = {}
        self.bands: dict[tuple[float, float, frozenset[str]], Band] = {}
        self.changed: dict[UserQueue, None] = {}  # users whose place may have changed, not yet marked in the bands
        self._origin: float | None = None

    def user(self, name: str) -> UserQueue:
        user = self.users.get(name)
        if user is None:
            user = self.users[name] = UserQueue(name)
        return user

    def band(self, low: float, high: float, only: Iterable[str] = ()) -> Band:
        """Return the band with these bounds and users; a new one is filled with the users who have waiting slices."""
        key = low, high, frozenset(only)
        band = self.bands.get(key)
        if band is None:
            band = self.bands[key] = Band(low, high, self, key[2])
            band.changed = dict.fromkeys(self.users.values())
        return band

    def standing_changed(self, user: UserQueue) -> None:
        """Note that the user has fewer workers, or a different recent use."""
        self.changed[user] = None

    def mark_bands(self) -> None:
        """Mark the changed users in the bands where they have an entry: once before a choice, not at each change."""
        for band in self.bands.values():
            band.changed.update(dict.fromkeys(filter(band.entries.__contains__, self.changed)))
        self.changed.clear()

    def line_changed(self, user: UserQueue, priority: float) -> None:
        """Note that another slice may be the next or the oldest of this user at this priority."""
        for band in self.bands.values():
            if band.low <= priority <= band.high:
                band.changed[user] = None

    def charge(self, user: UserQueue, seconds: float, now: float) -> None:
        """Add worker time that the user has used until now."""
        if self._origin is None:
            self._origin = now
        if now - self._origin > MOST_HALFLIVES * self.halflife_s:
            self._rescale(now)
        user.usage += seconds * 2.0 ** max(-1000.0, (now - self._origin) / self.halflife_s)
        user.used_s += seconds
        self.standing_changed(user)

    def recall(self, user: UserQueue, used_s: float, recent_s: float, at: float) -> None:
        """Restore worker time of an earlier core: `used_s` in all, of which `recent_s` still counted at time `at`."""
        self.charge(user, recent_s, at)
        user.used_s += used_s - recent_s

    def recent_s(self, user: UserQueue, now: float) -> float:
        """Return the worker time that counts against the user's share now."""
        if self._origin is None:
            return 0.0
        decay: float = 2.0 ** max(-1000.0, (self._origin - now) / self.halflife_s)
        return user.usage * decay

    def _rescale(self, now: float) -> None:
        assert self._origin is not None
        shrink = 2.0 ** max(-1000.0, -(now - self._origin) / self.halflife_s)
        self._origin = now
        for user in self.users.values():
            user.usage *= shrink
            self.standing_changed(user)
