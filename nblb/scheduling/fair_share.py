"""Fair share: the turn of whoever has the fewest workers for its share, then least recent use, then the oldest slice.

Whoever takes turns (a user, or a group of users) has a *level*: the number of full rounds among the
workers that it occupies, where one round gives each as many as its share is larger than the smallest share. With equal
shares that is the number of workers. At equal levels the one with the least recent use by its share is first, so that
over time each gets workers in proportion to its share even where there are fewer workers than a round has.

Recent use is worker time that decays exponentially (half-life LB_FAIR_HALFLIFE_S). Instead of decreasing every sum as
time passes, later additions count more: a second used at time t adds 2 ** (t / half-life), so waiting never
changes the order of two users, and a sorted line of users stays sorted. (Forward decay: Cormode et al., ICDE 2009.)
When the scale gets large, all sums are rescaled.

Each band (a range of priorities that some workers take) has a sorted line of those with a slice for it. A choice
reads its head, however long the backlog is. A user who gets a worker nearly always moves to the end, else to a place
found with O(log users) comparisons. (A heap needs as many at every choice.) Places are updated lazily:

- A user who gets a worker moves back in all bands. No entry is updated for that: an entry with fewer workers than the
  user has is corrected when it reaches the head.
- A change that may move a user forward (a worker comes back, the user's line has another head) marks the user in each
  band concerned, and the band replaces marked entries before its next choice. A band without capacity never chooses.

Workers with GPUs, and others that are reserved for tasks that need them, are counted apart: a band of such workers has
a *class*, and the level and the recent use that decide in it are those of its class. So work on ordinary workers costs
nobody a turn on a GPU.

An entry also contains the next slice, so that a choice needs no second lookup. Who may occupy no more workers has no
entry until one of them comes back.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeAlias

from nblb.access.limits import Limits
from nblb.protocol.equipment import PLAIN, Equipment
from nblb.scheduling.backlog import ClassUse, Entry, UserQueue
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Kind, needs_of

ALL: frozenset[str] = frozenset()  # as the users of a band: no restriction
MOST_HALFLIVES = 200.0  # after that the sums are rescaled, long before a float overflows
Sharer: TypeAlias = "UserQueue | UserGroup"
Breadth: TypeAlias = "tuple[float, int, int, float, bool]"


class _Unmarked:
    """Stands for a FairShare in the line of a group, whose users are marked there directly."""

    def __init__(self) -> None:
        self.changed: dict[UserQueue, None] = {}

    def mark_bands(self) -> None:
        """Do nothing."""


class Band:
    """Those with a slice for workers of minP..maxP, in the order of their turns.

    `only`: slices of no other users. `has`: what the workers have; only slices that need no more wait here.
    """

    __slots__ = ("changed", "entries", "has", "high", "is_inner", "line", "low", "only", "share", "worker_class")

    def __init__(
        self,
        low: float,
        high: float,
        share: FairShare | _Unmarked,
        only: frozenset[str] = ALL,
        is_inner: bool = False,
        has: Equipment = PLAIN,
    ) -> None:
        self.low, self.high, self.only, self.has = low, high, only, has
        self.worker_class = has.worker_class
        self.share = share
        self.is_inner = is_inner  # the line of a group: its users take turns
        self.line: list[Entry] = []  # sorted
        self.entries: dict[Sharer, Entry] = {}  # the valid ones of the line
        self.changed: dict[Sharer, None] = {}  # those who may have moved forward

    def inner(self) -> Band:
        """Return an empty line for the users of a group in this band."""
        return Band(self.low, self.high, _Unmarked(), is_inner=True, has=self.has)

    def sharer(self, user: UserQueue) -> Sharer:
        """Return who takes turns here for the user: the user, or its group."""
        return user if self.is_inner else user.group or user

    @property
    def breadth(self) -> Breadth:
        """A key that sorts the least equipment first, then narrow bands, and of equal ones those of some users only."""
        return (*self.has.size, self.high - self.low, not self.only)

    def takes(self, priority: float) -> bool:
        return self.low <= priority <= self.high

    def fits(self, kind: Kind) -> bool:
        """Return whether these workers have what slices of this kind need."""
        return not self.has.reserved if (needs := needs_of(kind)) is None else self.has.takes(needs)

    def use(self, sharer: Sharer) -> Sharer | ClassUse:
        """Return what decides the turn of a user or group here: its level and recent use in the class of workers."""
        return sharer.of_class(self.worker_class) if self.worker_class else sharer

    def admits(self, user: str) -> bool:
        """Return whether the owners of these workers' hubs let tasks of this user run on them."""
        return not self.only or user in self.only

    def mark(self, user: UserQueue) -> None:
        """Note that the user may have moved forward, and with any of its users a group."""
        group, is_admitted = user.group, self.admits(user.name)
        if group is not None:
            self.changed[group] = None
            if is_admitted:
                group.line(self).changed[user] = None
        elif is_admitted:
            self.changed[user] = None

    def empty(self) -> None:
        """Remove all entries."""
        self.line, self.entries, self.changed = [], {}, {}

    def refresh(self) -> None:
        """Update the entries of all who are marked."""
        self.share.mark_bands()
        entries, line = self.entries, self.line
        if self.only:
            self.changed = {
                each: None for each in self.changed if isinstance(each, UserGroup) or each.name in self.only
            }
        few = 4 * len(self.changed) < len(entries)  # else sorting all of them again is cheaper
        for sharer in self.changed:
            entry = sharer.turn(self)
            if entry is None:
                entries.pop(sharer, None)
            elif not few:
                entries[sharer] = entry
            elif entry != entries.get(sharer):
                entries[sharer] = entry
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
            level, usage, _, user, _ = entry
            sharer = user if user.group is None or self.is_inner else user.group
            if entries.get(sharer) is not entry:
                del line[0]
                continue
            use = sharer.of_class(self.worker_class) if self.worker_class else sharer
            if level == use.level and usage == use.usage:
                return entry
            self.correct(user)
        return None

    def equals(self, most: int) -> Iterator[Slice]:
        """Yield the next slices of up to `most` others at the same level as the first."""
        line = self.line
        level, first = line[0][0], self.sharer(line[0][3])
        for entry in islice(line, 1, most + 1):
            if entry[0] != level:
                break
            other = self.sharer(entry[3])
            if self.use(other).level == level and self.entries.get(other) is entry:
                yield entry[4]
        if isinstance(first, UserGroup):
            yield from first.line(self).equals(most)

    def of_fewer(self, user: UserQueue, most: int) -> Iterator[Slice]:
        """Yield the next slices of up to `most` users at a lower level than this one."""
        if self.first() is None:
            return
        level = self.use(user.group or user).level
        for entry in islice(self.line, most):
            other = self.sharer(entry[3])
            if self.use(other).level < level and self.entries.get(other) is entry:
                yield entry[4]
        if user.group is not None and user.group in self.entries:
            yield from user.group.line(self).of_fellows(user, most)

    def of_fellows(self, user: UserQueue, most: int) -> Iterator[Slice]:
        """Yield the next slices of users of the same group at a lower level; this is the line of the group."""
        level = self.use(user).level
        for entry in islice(self.line, most):
            other = self.sharer(entry[3])
            if self.use(other).level < level and self.entries.get(other) is entry:
                yield entry[4]

    def correct(self, user: UserQueue) -> None:
        """Move this user, the first of the line, or its group, to the new place after it was assigned a worker."""
        line, sharer = self.line, user if user.group is None or self.is_inner else user.group
        del line[0]
        entry = sharer.turn(self)
        if entry is None:
            del self.entries[sharer]
            return
        self.entries[sharer] = entry
        if line and entry < line[-1]:
            insort(line, entry)
        else:  # nearly always, when all users have equally many workers
            line.append(entry)

    def pass_over(self, user: UserQueue) -> None:
        """Remove the first user, to whom nothing can be assigned, until the user is marked again."""
        if user.group is None or self.is_inner:
            del self.entries[user]
            del self.line[0]
        else:
            user.group.line(self).pass_over(user)
            self.correct(user)

    def __repr__(self) -> str:
        only, has = ", ".join(sorted(self.only)), f" with {self.has}" if self.has != PLAIN else ""
        return f"<Band {self.low:g}..{self.high:g}{' of ' if only else ''}{only}{has}>"


class UserGroup:
    """A group of users, which takes turns as one; a user without a group takes turns like a group of one.

    For each band it has a line of those of its users who wait there. Its entry in the band is that of the first of
    them, with the group's own level and use.
    """

    __slots__ = (
        "apart",
        "classes",
        "level",
        "limits",
        "most",
        "name",
        "occupied",
        "share",
        "turns",
        "usage",
        "weight",
    )

    def __init__(self, limits: Limits) -> None:
        self.name = limits.name
        self.limits = limits
        self.share = limits.share
        self.most = limits.max_running  # slots that may be occupied; 0: no limit
        self.weight = 1.0
        self.occupied = 0
        self.apart = 0  # of these, slots in `classes`
        self.classes: dict[str, ClassUse] = {}
        self.level = 0
        self.usage = 0.0
        self.turns: dict[Band, Band] = {}  # band -> the line of its users there

    def occupy(self, slices: int, worker_class: str = "") -> None:
        """Add to the number of slices that its users have at hubs, on workers of a class."""
        self.occupied += slices
        if worker_class:
            self.apart += slices
            self._class(worker_class).add(slices, self.weight)
        else:
            self.level = int((self.occupied - self.apart) / self.weight)

    def of_class(self, worker_class: str) -> UserGroup | ClassUse:
        """Return what decides the group's turn on workers of a class."""
        return self._class(worker_class) if worker_class else self

    def _class(self, worker_class: str) -> ClassUse:
        use = self.classes.get(worker_class)
        if use is None:
            use = self.classes[worker_class] = ClassUse()
        return use

    @property
    def is_held(self) -> bool:
        """True if its users occupy as many workers as its limit allows."""
        return 0 < self.most <= self.occupied

    def line(self, band: Band) -> Band:
        """Return the line of its users in a band."""
        line = self.turns.get(band)
        if line is None:
            line = self.turns[band] = band.inner()
        return line

    def turn(self, band: Band) -> Entry | None:
        """Return the group's entry for the band, with the next slice of the user whose turn it is in the group."""
        if self.is_held:
            return None
        first = self.line(band).first()
        if first is None:
            return None
        use = self.of_class(band.worker_class)
        return use.level, use.usage, first[2], first[3], first[4]

    def __repr__(self) -> str:
        return f"<UserGroup {self.name}>"


def lead(one: UserQueue, other: UserQueue, band: Band | None = None) -> int:
    """Return how many levels `one` is above `other`: as users of the same group, or as the groups that they are in.

    `band`: in its class of workers.
    """
    worker_class = band.worker_class if band is not None else ""
    ours: tuple[Sharer, Sharer] = (one, other) if one.group is other.group else (one.group or one, other.group or other)
    return ours[0].of_class(worker_class).level - ours[1].of_class(worker_class).level


def standing(user: UserQueue, band: Band | None = None) -> tuple[int, float, int, float]:
    """Return what decides whose turn it is in the band, except the age of tasks: the lowest is first."""
    worker_class = band.worker_class if band is not None else ""
    own, use = user.of_class(worker_class), (user.group or user).of_class(worker_class)
    return use.level, use.usage, own.level, own.usage


class FairShare:
    """The turns of all users in all bands."""

    def __init__(self, halflife_s: float, ageing_s: float = 0.0, limits: Iterable[Limits] = ()) -> None:
        self.halflife_s = halflife_s
        self.ages = 1.0 / ageing_s if ageing_s > 0.0 else 0.0
        self.users: dict[str, UserQueue] = {}
        self.groups: dict[str, UserGroup] = {}
        self.bands: dict[tuple[float, float, frozenset[str], Equipment], Band] = {}
        self.changed: dict[UserQueue, None] = {}  # users whose place may have changed, not yet marked in the bands
        self.uploads: Counter[str] = Counter()  # user -> bytes of functions and constants
        self.unit = 1.0  # the smallest share
        self.of_user: dict[str, Limits] = {}
        self.of_group: dict[str, Limits] = {}
        self.has_absent = False  # some waiting users may have no entry: a limit holds them, or they are in groups
        self._origin: float | None = None
        if limits:
            self.limit(limits)

    # ── shares and limits ──

    def limit(self, limits: Iterable[Limits]) -> None:
        """Replace the shares and limits of all users and groups."""
        limits = tuple(limits)
        self.of_user = {each.name: each for each in limits if each.of == "user"}
        self.of_group = {each.name: each for each in limits if each.of == "group"}
        self.unit = min((each.share for each in limits), default=1.0)
        self.unit = min(self.unit, 1.0)
        self.has_absent = any(each.group or each.max_running for each in limits)
        shares = {user: user.share for user in self.users.values()}
        self.groups = {}
        for user, share in shares.items():
            self._apply(user)
            for name in ("", *user.classes):
                use = user.of_class(name)
                used = use.usage * share
                use.usage = used / user.share
                if user.group is not None:
                    user.group.of_class(name).usage += used / user.group.share
                    user.group.occupy(user.occupied_of(name), name)
        self.changed.clear()
        for band in self.bands.values():
            band.empty()
            for user in self.users.values():
                band.mark(user)

    def _apply(self, user: UserQueue) -> None:
        """Give a user its share, limits and group."""
        user.limits = limits = self.of_user.get(user.name) or Limits(user.name)
        user.share, user.weight = limits.share, limits.share / self.unit
        user.most = limits.max_running
        user.group = self._group(limits.group) if limits.group else None
        is_apart = bool(user.classes)
        user.is_special = user.weight != 1.0 or user.group is not None or user.most > 0 or is_apart
        user.level = user.occupied_of("") if user.weight == 1.0 else int(user.occupied_of("") / user.weight)
        for use in user.classes.values():
            use.add(0, user.weight)

    def _group(self, name: str) -> UserGroup:
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = UserGroup(self.of_group.get(name) or Limits(name, "group"))
            group.weight = group.share / self.unit
        return group

    def user(self, name: str) -> UserQueue:
        user = self.users.get(name)
        if user is None:
            user = self.users[name] = UserQueue(name, self.ages)
            if self.of_user or self.unit != 1.0:
                self._apply(user)
        return user

    @property
    def limits(self) -> tuple[Limits, ...]:
        """The shares and limits that are not the default."""
        return (*self.of_user.values(), *self.of_group.values())

    def limited(self) -> list[Sharer]:
        """Return the users and groups whose occupied workers are limited."""
        if not self.has_absent:
            return []
        sharers: list[Sharer] = [*self.users.values(), *self.groups.values()]
        return [each for each in sharers if each.limits.max_running]

    def stored(self, user: UserQueue | UserGroup) -> int:
        """Return the bytes that the core stores for a user, or for all users of a group."""
        if isinstance(user, UserQueue):
            return user.stored + self.uploads[user.name]
        return sum(self.stored(each) for each in self.users.values() if each.group is user)

    # ── turns ──

    def band(self, low: float, high: float, only: Iterable[str] = (), has: Equipment = PLAIN) -> Band:
        """Return the band with these bounds, users and equipment; a new one is filled with the users who wait."""
        key = low, high, frozenset(only), has
        band = self.bands.get(key)
        if band is None:
            band = self.bands[key] = Band(low, high, self, key[2], has=has)
            for user in self.users.values():
                band.mark(user)
        return band

    def assigned(self, user: UserQueue) -> None:
        """Note that a user with a share, a group, a limit or a class of workers was assigned one, at the same level."""
        self.changed[user] = None

    def standing_changed(self, user: UserQueue) -> None:
        """Note that the user has fewer workers, or a different recent use."""
        self.changed[user] = None

    def limit_changed(self, sharer: Sharer) -> None:
        """Note that a user, or the users of a group, may have room again."""
        for user in self.users.values():
            if sharer in (user, user.group):
                self.changed[user] = None

    def count_all(self, user: UserQueue) -> None:
        """Let the limits of a user and of its group count all tasks again, since one that waited goes on."""
        for sharer in (user, user.group):
            if sharer is not None and sharer.most != sharer.limits.max_running:
                sharer.most = sharer.limits.max_running
                self.limit_changed(sharer)

    def mark_bands(self) -> None:
        """Mark the changed users in the bands where they have an entry: once before a choice, not at each change."""
        for band in self.bands.values():
            if self.has_absent:
                for user in self.changed:
                    band.mark(user)
            else:
                band.changed.update(dict.fromkeys(filter(band.entries.__contains__, self.changed)))
        self.changed.clear()

    def line_changed(self, user: UserQueue, priority: float) -> None:
        """Note that another slice may be the next or the oldest of this user at this priority."""
        for band in self.bands.values():
            if band.low <= priority <= band.high:
                if user.group is None:
                    band.changed[user] = None
                else:
                    band.mark(user)

    # ── use ──

    def charge(self, user: UserQueue, seconds: float, now: float, worker_class: str = "") -> None:
        """Add worker time that the user has used until now, on workers of a class."""
        if self._origin is None:
            self._origin = now
        if now - self._origin > MOST_HALFLIVES * self.halflife_s:
            self._rescale(now)
        counts = seconds * 2.0 ** max(-1000.0, (now - self._origin) / self.halflife_s)
        use = user.of_class(worker_class) if worker_class else user
        use.usage += counts / user.share
        user.used_s += seconds
        if user.group is not None:
            user.group.of_class(worker_class).usage += counts / user.group.share
        self.changed[user] = None

    def recall(self, user: UserQueue, used_s: float, recent_s: float, at: float) -> None:
        """Restore worker time of an earlier core: `used_s` in all, of which `recent_s` still counted at time `at`."""
        self.charge(user, recent_s, at)
        user.used_s += used_s - recent_s

    def recent_s(self, user: UserQueue, now: float) -> float:
        """Return the worker time that counts against the user's share now, of all classes of workers together."""
        if self._origin is None:
            return 0.0
        decay: float = 2.0 ** max(-1000.0, (self._origin - now) / self.halflife_s)
        return (user.usage + sum(use.usage for use in user.classes.values())) * user.share * decay

    def _rescale(self, now: float) -> None:
        assert self._origin is not None
        shrink = 2.0 ** max(-1000.0, -(now - self._origin) / self.halflife_s)
        self._origin = now
        for group in self.groups.values():
            for name in ("", *group.classes):
                group.of_class(name).usage *= shrink
        for user in self.users.values():
            for name in ("", *user.classes):
                user.of_class(name).usage *= shrink
            self.standing_changed(user)
