"""Checks of rule I6 from outside: each assignment goes to the user whose turn it is, with that user's most urgent task.

The same rule holds for slices sent ahead to busy workers: no user with fewer workers waits behind them. And while two
users both have work waiting, they get about the same worker time.

The checks count from the hubs' slices and from the submissions themselves, not from the scheduler's own sums, so that
they find wrong sums.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from nblb.protocol.commands import Command, Send
from nblb.protocol.messages import ResumeTask, RunTask
from nblb.scheduling.fair_share import lead
from nblb.scheduling.hubs import Assignment, Fence, GroupOfWorkers
from nblb.scheduling.placement import MOST_COMPARED
from nblb.scheduling.recall import MOST_AT_ONCE
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Kind, Submission
from nblb.simulation.simulator import Violation
from nblb.simulation.standing import Standing

if TYPE_CHECKING:
    from nblb.simulation.simulated_hub import SimulatedHub

Alike: TypeAlias = "tuple[str, float, Kind]"  # user, priority, kind: slices that wait for the same turn
LATE_S = 0.05  # tolerance for the time of a check
ON_THE_WAY_S = 0.5  # by then a slice sent ahead has begun or was recalled; a commit takes at most a fifth of it
RECALL_S = 0.1  # work ahead may stay for so long after a user with fewer workers begins to wait


def check_turns(scheduler: Scheduler, commands: Sequence[Command], standing: Standing) -> None:
    """Checks the assignments of a turn, going backwards from the state after it."""
    runs = [c.message for c in commands if type(c) is Send and isinstance(c.message, (RunTask, ResumeTask))]
    if not runs:
        return
    state = scheduler.state
    resumable = [held for held in state.resumable if not held.group.hub.suspect]
    held_now: dict[tuple[str, int, int], Assignment] = {}
    occupied = Occupied()
    in_group: Counter[object] = Counter()
    for hub in state.hubs.values():
        held_now.update(hub.in_flight)
        for held in hub.in_flight.values():
            if not held.wait:
                occupied.add(held.record.user, held.group)
                in_group[held.group] += 1
    waiting: dict[Alike, Slice] = {}  # the oldest of each kind
    for record in state.records.values():
        for task in record.slices:
            if state.is_in_line(task):
                _note(waiting, task)  # the first of its submission; a nested one goes before older ones
                break
    for run in reversed(runs):
        given = held_now.get((run.task, run.first, run.attempt))
        if given is None:  # recalled in the same turn
            continue
        user = given.record.user
        occupied.add(user, given.group, -1)
        in_group[given.group] -= 1
        ahead, goes_on = in_group[given.group] >= given.group.alive, type(run) is ResumeTask
        if not (goes_on and given.unasked):  # one that has lent its slot unasked continues at once, even if others wait
            _check_limit(scheduler, given, occupied.all, standing)
            _check(given, occupied, waiting, ahead, goes_on, standing)
            if not ahead:
                _check_resumable(scheduler, given, occupied, resumable, standing)
            elif not goes_on:
                _check_equals(scheduler, given, occupied, waiting, standing)
        if goes_on:
            resumable.append(given)
        else:
            for task in given.tasks:
                _note(waiting, task)


def _note(waiting: dict[Alike, Slice], task: Slice) -> None:
    record = task.record
    alike = record.user, record.spec.priority, record.kind
    waiting[alike] = min(task, waiting.get(alike, task))


def _check_limit(scheduler: Scheduler, given: Assignment, occupied: Counter[str], standing: Standing) -> None:
    """Checks that no limit on occupied workers is exceeded; tasks with open nested ones may have ceased to count."""
    user, group = given.record.user, standing.group(given.record.user)
    excused = sum(
        bool(held.record.children) and (held.record.user == user or standing.group(held.record.user) == (group or None))
        for hub in scheduler.state.hubs.values()
        for held in hub.in_flight.values()
        if not held.wait
    )
    if standing.is_held(occupied, user, excused):
        raise Violation("quota", f"{given.record.id} of {user} goes to a hub, and {dict(occupied)} occupy workers")


def _check_resumable(
    scheduler: Scheduler,
    given: Assignment,
    occupied: Occupied,
    resumable: Sequence[Assignment],
    standing: Standing,
) -> None:
    """Checks that a worker whose wait is over goes on before its group begins a slice of a user with more workers."""
    user, priority, group = given.record.user, given.record.spec.priority, given.group
    counts = occupied.like(group)
    if any(band.takes(priority) and band is not group.band for band in scheduler.state.placement.bands):
        return
    for held in resumable:
        other = held.record.user
        if standing.is_held(occupied.all, other):
            continue
        if held.group is group and standing.lead(counts, user, other) > 0:
            raise Violation(
                "I6",
                f"{given.record.id} of {user} ({counts[user]} workers) goes before {held.fence} of {other} "
                f"({counts[other]} workers), whose worker has waited",
            )


def _check(
    given: Assignment,
    occupied: Occupied,
    waiting: Mapping[Alike, Slice],
    ahead: bool,
    goes_on: bool,
    standing: Standing,
) -> None:
    user, group = given.record.user, given.group
    where = f"{'ahead ' * ahead}to {group.hub.name}"
    if not goes_on:
        _check_order(given, waiting, where, standing)
    for (other, wanted, kind), task in waiting.items():
        if not (group.band.takes(wanted) and group.band.admits(other) and group.runs(kind)):
            continue
        if other == user or standing.is_held(occupied.all, other):
            continue
        if standing.lead(occupied.like(group), user, other) > 0:
            raise Violation(
                "I6",
                f"{given.record.id} of {user} ({occupied.like(group)[user]} workers) goes {where} before {task!r} "
                f"of {other} ({occupied.like(group)[other]} workers)",
            )


def _check_order(given: Assignment, waiting: Mapping[Alike, Slice], where: str, standing: Standing) -> None:
    """Checks that of a user's tasks the most urgent goes first, where all have gained urgency by waiting."""
    group, record = given.group, given.record
    heads: dict[float, Slice] = {}
    for (user, wanted, _), task in waiting.items():
        if user == record.user:
            heads[wanted] = min(task, heads.get(wanted, task))
    for wanted, task in heads.items():
        if wanted == record.spec.priority or task.record.depth or record.depth:
            continue
        if not group.band.takes(wanted) or not group.runs(task.record.kind):
            continue
        if standing.rank(task) > standing.rank(given.tasks[0]) + 1e-6:
            more_urgent = f"{task!r} of the same user, which is more urgent or has waited for long"
            raise Violation("I6", f"{record.id} goes {where} before {more_urgent}")


def _check_equals(
    scheduler: Scheduler,
    given: Assignment,
    occupied: Occupied,
    waiting: Mapping[Alike, Slice],
    standing: Standing,
) -> None:
    """Checks that no slice is sent ahead of a user at the same level whose next task needs a free worker."""
    user, group, state = given.record.user, given.group, scheduler.state
    in_flight = (held for hub in state.hubs.values() for held in hub.in_flight.values())
    running = {held.record.spec.function for held in in_flight if held.started_at}  # their estimates may have risen
    for other in {other for other, *_ in waiting if group.band.admits(other)} - {user}:
        theirs = [task for (who, wanted, _), task in waiting.items() if who == other and group.band.takes(wanted)]
        task = min(theirs, key=lambda task: (-standing.rank(task), task), default=None)
        if task is None or standing.lead(occupied.like(group), other, user) or task.record.spec.function in running:
            continue
        if standing.is_held(occupied.all, other) or standing.group(other) not in ("", standing.group(user)):
            continue  # of another group it may be another user's turn
        if group.runs(task.record.kind) and not state.placement.is_short(task, group):
            text = (
                f"{given.record.id} of {user} goes ahead to {group.hub.name} before {task!r} of {other}, which is too"
            )
            raise Violation("I6", f"{text} long for that; each has {occupied.like(group)[user]} workers")


class Occupied:
    """The slots in use by user: all together, for limits, and by class of workers, for turns."""

    def __init__(self) -> None:
        self.all: Counter[str] = Counter()
        self._by_class: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, user: str, group: GroupOfWorkers, slots: int = 1) -> None:
        self.all[user] += slots
        self.like(group)[user] += slots

    def like(self, group: GroupOfWorkers) -> Counter[str]:
        """The slots of the same class as those of the group."""
        return self._by_class[group.spec.has.worker_class]


class Shares:
    """Worker time by user, compared after each turn of the core, where all workers take all tasks.

    While two users both have work waiting, one may get more time than the other by at most the calls that ran when
    that began, one more call on each worker, and the other's recent lead (ties go to the user with the least use).
    """

    def __init__(self, standing: Standing, slack_s: float = 0.0) -> None:
        self.standing = standing
        self.late_s = LATE_S + slack_s  # the way to a hub and back
        self.used: defaultdict[str, float] = defaultdict(float)
        self.longest_s = 0.0  # of the longest slice so far
        self.compared_s = 0.0  # the longest time over which two users were compared
        self._since: dict[tuple[str, str], tuple[float, float]] = {}  # both waiting -> (since when, the lead then)

    def check(self, scheduler: Scheduler, hubs: Sequence[SimulatedHub], now: float) -> None:
        """Adds the work since the last check, and compares all waiting users."""
        workers = [worker for hub in hubs for worker in hub.pool.workers.values()]
        self.used = defaultdict(float)
        for hub in hubs:
            for user, seconds in hub.pool.worked.items():
                self.used[user] += seconds
            self.longest_s = max(self.longest_s, hub.pool.longest_s)
        for worker in workers:
            if worker.run is not None:
                self.used[worker.run.user] += now - worker.began_at
                self.longest_s = max(self.longest_s, now - worker.began_at)
        users = scheduler.state.share.users.values()
        waiting = sorted({self._sharer(user.name) for user in users if user.waiting and not user.is_held})
        pairs = [(one, other) for n, one in enumerate(waiting) for other in waiting[n + 1 :]]
        self._since = {pair: self._since.get(pair) or (now, self._lead(pair)) for pair in pairs}
        for pair, (since, before) in self._since.items():
            self.compared_s = max(self.compared_s, now - since)
            more = abs(self._lead(pair) - before)
            bound = abs(before) + 2.0 * len(workers) * (self.longest_s + self.late_s) / min(map(self._share, pair))
            if more > bound:
                text = f"of {pair} one has had {more:.2f} s of workers for its share more in {now - since:.2f} s"
                raise Violation("I6", text)

    def _lead(self, pair: tuple[str, str]) -> float:
        one, other = (self._used(each) / self._share(each) for each in pair)
        return one - other

    def _sharer(self, user: str) -> str:
        """The user, or the group of the user with a mark that no name has."""
        group = self.standing.group(user)
        return f"\n{group}" if group else user

    def _share(self, sharer: str) -> float:
        own = self.standing.of_group(sharer[1:]) if sharer.startswith("\n") else self.standing.of(sharer)
        return own.share

    def _used(self, sharer: str) -> float:
        return sum(seconds for user, seconds in self.used.items() if self._sharer(user) == sharer)


class StartDelays:
    """Users who wait while others have more workers, in histories without faults: the next free slot there is theirs.

    Each call that begins is checked against those who wait, from what the workers really run and from what the hubs
    really have. A slice that was sent ahead earlier, in its turn, may still begin within ON_THE_WAY_S; a running slice
    of several calls may begin another one within this time.
    """

    def __init__(self, standing: Standing, slack_s: float = 0.0) -> None:
        self.standing = standing
        self.slack_s = slack_s  # what slow connections add
        self.longest_s = 0.0  # the longest wait of a user with fewer workers
        self._with_more: dict[tuple[str, str, str, int], float] = {}  # (waiting, with more, hub, group) -> since when
        self._waiting: dict[tuple[str, str, int], float] = {}  # (user, hub, group that could take it) -> since when
        self._given: dict[Fence, float] = {}  # slice at a hub -> since when
        self._begun: dict[Fence, float] = {}  # slice at a hub that has begun -> when
        self._first: dict[str, tuple[int, int, str]] = {}  # user -> the slice for which the user waits
        self._left: dict[str, float] = {}  # user -> since when work ahead stays that the user waits behind
        self._latest: dict[str, float] = {}  # user -> when the latest slice of the user began

    def begin_again(self) -> None:
        """Count all waits from the next turn on, since shares or limits have changed."""
        self._with_more, self._waiting, self._left = {}, {}, {}

    def check(self, scheduler: Scheduler, now: float) -> None:
        """Records the waiting users after a turn of the core."""
        self._check_way(scheduler, now)
        state = scheduler.state
        in_flight = {fence: held for hub in state.hubs.values() for fence, held in hub.in_flight.items()}
        self._given = {fence: self._given.get(fence, now) for fence in in_flight}
        self._begun = {fence: at for fence, at in self._begun.items() if fence in in_flight}
        occupied = Occupied()
        for held in in_flight.values():
            occupied.add(held.record.user, held.group)
        ahead = [held for fence, held in in_flight.items() if fence not in self._begun]
        with_more, waiting = self._with_more, self._waiting
        self._with_more, self._waiting = {}, {}
        for hub in state.hubs.values():
            for group in hub.groups if not hub.suspect else ():
                if not group.alive:
                    continue
                queued = [user for user in _in_line(scheduler, group) if not self.standing.is_held(occupied.all, user)]
                sent = [held.record for held in ahead if _takes(group, held.record)]
                for user in dict.fromkeys((*queued, *(record.user for record in sent if group.runs(record.kind)))):
                    place = user, hub.id, group.number
                    self._waiting[place] = waiting.get(place, now)
                for user in queued:
                    counts = occupied.like(group)
                    for other in list(counts):
                        if self.standing.lead(counts, other, user) > 1:
                            key = user, other, hub.id, group.number
                            self._with_more[key] = with_more.get(key, now)

    def _check_way(self, scheduler: Scheduler, now: float) -> None:
        """Checks that work ahead is recalled soon after a user with fewer workers begins to wait."""
        before, self._first = self._first, {}
        left_before, self._left = self._left, {}
        placement = scheduler.state.placement
        for user, task, band in scheduler.dispatch.waiting:
            key = self._first[user.name] = task.record.number, task.first, str(band)
            is_known = before.get(user.name) == key and user.name not in left_before
            groups = () if is_known else (*placement.rooms[band].full, *placement.rooms[band].ahead)
            for group in groups[:MOST_COMPARED]:
                ahead = group.given - group.alive
                if not 0 < ahead <= MOST_AT_ONCE or placement.is_short(task, group):
                    continue
                latest = [held for held in group.hub.in_flight.values() if held.group is group][-ahead:]
                left = [held for held in latest if not (held.recalled or held.started_at)]
                if group.runs(task.record.kind) and any(lead(held.user, user, band) > 1 for held in left):
                    since = self._left[user.name] = left_before.get(user.name, now)
                    if now - since > RECALL_S:
                        raise Violation("I6", f"{left} wait ahead of {task!r} of {user.name}, who has fewer workers")

    def began(self, run: RunTask, item: int, hub: str, hubs: Sequence[SimulatedHub], now: float) -> None:
        """Checks, when a call begins, that no waiting user should have got its slot."""
        fence = run.task, run.first, run.attempt
        given, goes_on = self._given.get(fence, now), item > run.first
        words = f"{run.task}[{item}] of {run.user} {'goes on' if goes_on else 'begins'} on {hub}, and"
        if not goes_on:
            self._begun[fence] = now
        elif not run.split:  # it cannot be cut, so it counts as one call
            return
        for (user, other, where, group), since in self._with_more.items():
            if (other, where, group) == (run.user, hub, run.group) and now > max(
                since, given
            ) + ON_THE_WAY_S + self.slack_s:
                text = f"{words} {user}, who has fewer slices at hubs, waits since {now - since:.3f} s"
                raise Violation("I6", text)
        mine = next((one.groups[run.group].has.worker_class for one in hubs if one.name == hub), "")
        running = Counter(
            worker.run.user
            for one in hubs
            for worker in one.pool.workers.values()
            if worker.run and one.groups[worker.run.group].has.worker_class == mine
        )
        most = 1 if goes_on else 2
        for (user, where, group), since in self._waiting.items():
            if user == run.user or (where, group) != (hub, run.group):
                continue
            if self.standing.lead(running, run.user, user) < most:
                continue
            before = self._begun.get(fence, now) if goes_on else given
            ended = max(one.pool.ended_at.get(user, 0.0) for one in hubs)  # until then the user had as many
            waited = now - max(since, self._latest.get(user, 0.0), before, ended)
            self.longest_s = max(self.longest_s, waited)
            if waited > ON_THE_WAY_S + self.slack_s:
                text = f"{words} {user} waits since {now - since:.3f} s; they run {running[user]}:{running[run.user]}"
                raise Violation("I6", text)
        if not goes_on:
            self._latest[run.user] = now


def _takes(group: GroupOfWorkers, record: Submission) -> bool:
    """True if the group's band has the submission's priority, and its hub admits the user."""
    return group.band.takes(record.spec.priority) and group.band.admits(record.user)


def _in_line(scheduler: Scheduler, group: GroupOfWorkers) -> list[str]:
    """The users with a waiting slice that a worker of this group takes."""
    return [
        user.name
        for user in scheduler.state.share.users.values()
        if group.band.admits(user.name)
        and any(
            group.band.takes(wanted) and any(group.runs(kind) for kind, line in level.items() if line.items)
            for wanted, level in user.levels.items()
        )
    ]
