"""Whose turn it is: the user with the fewest occupied workers, then the least recent use, then the oldest task.

Recent use is worker time that decays exponentially (half-life LB_FAIR_HALFLIFE_S). Instead of shrinking every
user's sum as time passes, what is added grows: a second used at time t counts 2 ** (t / half-life), so the order
of two users never changes by waiting and a line of them stays sorted. (Forward decay: Cormode et al., ICDE 2009.)
When the scale gets large, all sums are rescaled.

Each band (a range of priorities that some workers take) has a sorted line of the users with a task for it. A choice
looks at its head however long the backlog is; whoever gets a worker nearly always goes to its end, else to a place
that O(log users) comparisons find. (A heap compares as often at every choice.) A place is looked after when it matters:

- Whoever gets a worker sinks, in all bands. Nothing is done about it: an entry that tells of fewer workers than the
  user has is put right when it comes to the top.
- Whatever may raise a user (a worker comes back, the line has another head) is marked in each band where it matters,
  and a band gives those who are marked new entries before its next choice. One that has no room does not choose.

An entry tells the user's next task, too, so that a choice needs no second look at the line.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from itertools import islice

from nblb.scheduling.backlog import Entry, UserQueue
from nblb.scheduling.slice import Slice

MOST_HALFLIVES = 200.0  # then the scale starts anew, long before a float overflows


class Band:
    """The users with a task for workers of minP..maxP, in the order of their turns."""

    __slots__ = ("changed", "entries", "high", "line", "low", "share")

    def __init__(self, low: float, high: float, share: FairShare) -> None:
        self.low, self.high = low, high
        self.share = share
        self.line: list[Entry] = []  # sorted
        self.entries: dict[UserQueue, Entry] = {}  # those in the line that are valid
        self.changed: dict[UserQueue, None] = {}  # those who may deserve a better place than their entry

    def takes(self, priority: float) -> bool:
        return self.low <= priority <= self.high

    def refresh(self) -> None:
        """Give all who were marked the places that they deserve."""
        self.share.tell_bands()
        entries, line = self.entries, self.line
        few = 4 * len(self.changed) < len(entries)  # else it is cheaper to order all of them anew
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
        """Whose turn it is, and with which task; None when nobody waits."""
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
        """The next tasks of the users with as few workers as the first (but not its own), of so many at most."""
        line = self.line
        fewest = line[0][0]
        for entry in islice(line, 1, most + 1):
            occupied, _, _, user, task = entry
            if occupied != fewest:
                return
            if user.occupied == occupied and self.entries.get(user) is entry:
                yield task

    def put_right(self, user: UserQueue) -> None:
        """The first, this user, gets the place that it deserves now: it has got something."""
        line = self.line
        del line[0]
        entry = user.turn(self)
        if entry is None:
            del self.entries[user]
            return
        self.entries[user] = entry
        if line and entry < line[-1]:
            insort(line, entry)
        else:  # nearly always, where nobody has more workers than the others
            line.append(entry)

    def pass_over(self, user: UserQueue) -> None:
        """The first, whom nothing can be given, has no turn until it is marked again."""
        del self.entries[user]
        del self.line[0]

    def __repr__(self) -> str:
        return f"<Band {self.low:g}..{self.high:g}>"


class FairShare:
    """Keeps the turns of all users in all bands."""

    def __init__(self, halflife_s: float) -> None:
        self.halflife_s = halflife_s
        self.users: dict[str, UserQueue] = {}
        self.bands: dict[tuple[float, float], Band] = {}
        self.changed: dict[UserQueue, None] = {}  # those whose standing has, and the bands do not know it
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
            band = self.bands[low, high] = Band(low, high, self)
            band.changed = dict.fromkeys(self.users.values())
        return band

    def standing_changed(self, user: UserQueue) -> None:
        """The user has fewer workers, or another use of them."""
        self.changed[user] = None

    def tell_bands(self) -> None:
        """Mark those whose standing has changed where they have a turn; before a choice, not at each change."""
        for band in self.bands.values():
            band.changed.update(dict.fromkeys(filter(band.entries.__contains__, self.changed)))
        self.changed.clear()

    def line_changed(self, user: UserQueue, priority: float) -> None:
        """Another task may be the next or the oldest of this user and priority."""
        for band in self.bands.values():
            if band.low <= priority <= band.high:
                band.changed[user] = None

    def charge(self, user: UserQueue, seconds: float, now: float) -> None:
        """The user has used a worker for so long, until now."""
        if self._origin is None:
            self._origin = now
        if now - self._origin > MOST_HALFLIVES * self.halflife_s:
            self._rescale(now)
        user.usage += seconds * 2.0 ** max(-1000.0, (now - self._origin) / self.halflife_s)
        user.used_s += seconds
        self.standing_changed(user)

    def recall(self, user: UserQueue, used_s: float, recent_s: float, at: float) -> None:
        """The user has used workers for so long, and at that time `recent_s` of it still counted."""
        self.charge(user, recent_s, at)
        user.used_s += used_s - recent_s

    def recent_s(self, user: UserQueue, now: float) -> float:
        """The user's worker time that counts against its share now."""
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
