"""Invariants of a scheduler between two events, for tests and the simulator.

`check` recomputes from the slices everything that is counted incrementally, and raises AssertionError with the story
of the first slice that does not match. It visits the whole state, so a running core does not call it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from nblb.protocol.messages import ENDED, TaskState
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band, UserGroup, lead
from nblb.scheduling.hubs import Assignment, GroupOfWorkers, Hub
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State
from nblb.scheduling.submission import Submission, SubmittedJob

GIVEN = (TaskState.ASSIGNED, TaskState.RUNNING, TaskState.CANCELLING)


def check(scheduler: Scheduler, ticked: bool = False) -> None:
    """Raise AssertionError if an invariant is violated; `ticked`: check also that `tick` has done all its work."""
    state = scheduler.state
    assert not state.out, f"commands were left behind: {state.out}"
    for record in state.records.values():
        _partition(record)
        _record(state, record)
        for task in record.slices:
            _slice(state, task)
    nested = sum(bool(record.spec.parent) and not record.untied for record in state.records.values())
    assert state.nested == nested, f"{state.nested} open nested tasks are counted, there are {nested}"
    for job in state.jobs.values():
        _job(state, job)
    for (user, name), job_id in state.job_names.items():
        assert job_id in state.jobs, f"{name} of {user} names job {job_id}, which was dropped"
    for hub in state.hubs.values():
        _hub(state, hub)
    _orphans(state)
    _users(state)
    _groups(state)
    _stored(state)
    _turns(state)
    _blobs(state)
    _pins(state)
    _equipment(state)
    if ticked and not state.dispatch_due:
        _nobody_waits_in_vain(state)
        _nobody_waits_behind_work_ahead(scheduler)


def story(task: Slice) -> str:
    """Return the slice and its past transitions, for the message of a failed check."""
    told = "; ".join(f"{at:.3f} {cause}: {old} -> {new}" for at, cause, old, new in task.story)
    return f"{task!r} ({told or 'just accepted'})"


def _partition(record: Submission) -> None:
    at = 0
    for task in record.slices:
        assert task.record is record, f"{story(task)} is in another submission's slices"
        assert task.first == at, f"{story(task)} should begin at item {at}"
        assert task.items > 0, f"{story(task)} has no item"
        at += task.items
    assert at == record.items, f"the slices of {record.id} have {at} of its {record.items} items"


def _record(state: State, record: Submission) -> None:
    unended = sum(task.items for task in record.slices if task.state not in ENDED)
    assert record.unended == unended, f"{record.id} counts {record.unended} open items, there are {unended}"
    assert record.closed == (unended == 0), f"{record.id} is closed: {record.closed}, with {unended} open items"
    if record.forgotten:
        lives = [t for t in record.slices if t.state not in (*ENDED, TaskState.CANCELLING)]
        assert not lives, f"{story(record.slices[0])} belongs to a dropped job, and is still open"
        assert record.expires, f"{record.id} belongs to a dropped job, and never expires"
    if record.job is not None:
        assert state.jobs.get(record.job.id) is record.job, f"{record.id} is in the dropped job {record.job.id}"
        assert record.job.records.get(record.id) is record, f"job {record.job.id} does not list {record.id}"
    if not record.closed:
        for name in record.spec.depends:
            needed, item = state.needed(name)
            ready = [t for t in record.slices if t.state in (TaskState.QUEUED, *GIVEN)]
            if ready and needed is not None:
                assert needed.has_result(item), f"{story(ready[0])} runs, and {name} which it needs is not done"
            assert needed is not None or not ready, f"{story(ready[0])} needs {name}, which has been dropped"
    else:
        waiting = any((record.dependents or {}).values()) or record.followers
        assert not waiting, f"{record.id} has ended, and others still wait for it"


def _slice(state: State, task: Slice) -> None:
    held, orphan = task.held, task.orphan
    if task.state in ENDED:
        assert task.ended is not None, f"{story(task)} has the end None"
        assert task.ended.state is task.state, f"{story(task)} has the end {task.ended}"
        first, last = task.ended.first, task.ended.first + task.ended.items
        assert first <= task.first < task.first + task.items <= last, f"{story(task)} has another's end"
        offsets = range(task.first - first, task.first - first + task.items)
        assert not set(offsets) & set(task.ended.holes), f"{story(task)} is in a hole of its own end"
    else:
        assert task.ended is None, f"{story(task)} has the end {task.ended}"
    if task.state in GIVEN:
        assert (held is None) is not (orphan is None), f"{story(task)} must be either assigned or an orphan"
    else:
        assert (held or orphan) is None, f"{story(task)} is in {held or orphan}"
    if held is not None:
        assert any(task is one for one in held.tasks), f"{story(task)} is not among the slices of its attempt"
        assert held.attempt == task.attempt, f"{story(task)} is assigned as attempt {held.attempt}"
        assert held.group.hub.in_flight.get(held.fence) is held, f"{story(task)} is not among the attempts of its hub"
        assert state.hubs.get(held.group.hub.address) is held.group.hub, f"{story(task)} is with a hub that is gone"
    if task in state.delayed:
        assert task.state is TaskState.QUEUED, f"{story(task)} is delayed"
    if task.state is TaskState.BLOCKED:
        follows = task.follows and task in state.followers.get(task.follows, ())
        assert follows or _has_cause_to_wait(state, task.record), f"{story(task)} waits for nothing"


def _has_cause_to_wait(state: State, record: Submission) -> bool:
    if any(record in (other.followers or ()) for other in state.records.values() if not other.closed):
        return True
    needs = [state.needed(name) for name in dict.fromkeys(record.spec.depends)]
    waits = [(needed, item) for needed, item in needs if needed is not None and needed.is_open(item)]
    return record.blocked_on == len(waits) > 0 and all(
        (needed.dependents or {}).get(item, []).count(record) == 1 for needed, item in waits
    )


def _job(state: State, job: SubmittedJob) -> None:
    counts: Counter[TaskState] = Counter()
    for record in job.records.values():
        assert state.records.get(record.id) is record, f"job {job.id} lists {record.id}, which has been dropped"
        for task in record.slices:
            counts[task.state] += task.items
    known = {name: n for name, n in job.counts.items() if n}
    assert known == counts, f"job {job.id} counts {known}, there are {dict(counts)}"


def _hub(state: State, hub: Hub) -> None:
    given: Counter[GroupOfWorkers] = Counter()
    pending: Counter[GroupOfWorkers] = Counter()
    for fence, held in hub.in_flight.items():
        assert fence == held.fence, f"{hub.name} has {held.fence} under the key {fence}"
        assert held.group.hub is hub, f"{hub.name} has {fence}, which is another hub's"
        assert held.group in hub.groups, f"{fence} is in a group that {hub.name} does not have"
        if not held.wait:
            given[held.group] += 1
            pending[held.group] += held.estimate_s  # type: ignore[assignment]
        _in_flight(state, hub, held)
    for group in hub.groups:
        assert group.given == given[group], f"{hub.name} counts {group.given} assigned slices, has {given[group]}"
        drift = abs(group.pending_s - pending[group])
        assert drift < 1e-6, f"{hub.name} counts {group.pending_s} s of work ahead, has {pending[group]}"
        alive = sum(worker.group is group and not worker.stand_in for worker in hub.workers.values())
        assert group.alive == alive, f"{hub.name} counts {group.alive} workers, has {alive}"
        free, room = group.given < group.alive, group.room
        assert (group in room.free) == free, f"{hub.name} group {group.number} stands in the wrong room"
        behind = group.given > group.alive
        assert (group in room.behind) == behind, f"{hub.name} group {group.number}: what waits there is not known"
        busy = not free and group.is_open(room.prefetch_s)
        assert (group in room.ahead) == busy, f"{hub.name} group {group.number} stands in the wrong room"
    for worker in hub.workers.values():
        if worker.held is not None:
            assert hub.in_flight.get(worker.held.fence) is worker.held, f"{worker.id} has what its hub does not have"
            assert worker.held.worker == worker.id, f"{worker.id} has an attempt that runs on {worker.held.worker}"


def _in_flight(state: State, hub: Hub, held: Assignment) -> None:
    record = held.record
    known = state.records.get(record.id) is record or not held.tasks
    assert known, f"{hub.name} has {held.fence} of a submission that was dropped"
    mine = [task for task in record.covering(held.first, held.items) if task.held is held]
    assert held.tasks == mine, f"{held.fence} has the slices {held.tasks}, those that name it are {mine}"
    assert mine or held.told or held.is_over, f"{hub.name} runs {held.fence}, which is not wanted"
    for task in mine:
        assert task.state in GIVEN, f"{story(task)} is assigned to {hub.name} in the wrong state"
        if task.state is TaskState.CANCELLING:
            assert len(mine) == 1, f"{story(task)} is being stopped, and with it {mine}"
    priorities = record.spec.priority, *record.earlier_priorities
    assert any(map(held.group.band.takes, priorities)), f"{held.fence} is outside the band of its worker"


def _orphans(state: State) -> None:
    for fence, orphan in state.orphans.items():
        assert fence == orphan.fence, f"{orphan.fence} is an orphan under the key {fence}"
        tasks = orphan.tasks()
        assert tasks, f"{fence} is an orphan without a slice"
        assert all(task.state is TaskState.ASSIGNED for task in tasks), f"{story(tasks[0])} is an orphan"
    for record in state.records.values():
        for task in record.slices:
            known = task.orphan is None or state.orphans.get(task.orphan.fence) is task.orphan
            assert known, f"{story(task)} names an orphan that is not in the state"


def _users(state: State) -> None:
    in_flight = [held for hub in state.hubs.values() for held in hub.in_flight.values()]
    occupied = Counter(held.user.name for held in in_flight if not held.wait)
    for held in state.resumable:
        assert held.wait, f"{held.fence} asks for a slot, and does not wait"
        assert held in in_flight, f"{held.fence} asks for a slot, and no hub has it"
    queued: defaultdict[str, list[Slice]] = defaultdict(list)
    for record in state.records.values():
        queued[record.user] += [task for task in record.slices if state.is_in_line(task)]
    for name, tasks in queued.items():  # a user whose first submission is BLOCKED has no line yet
        assert name in state.share.users or not tasks, f"{name} has no line, and {tasks} wait"
    for name, user in state.share.users.items():
        assert user.occupied == occupied[name], f"{name} counts {user.occupied} occupied slots, has {occupied[name]}"
        _classes(
            user, Counter(held.group.band.worker_class for held in in_flight if held.user is user and not held.wait)
        )
        level = int(user.occupied_of("") / (user.share / state.share.unit))
        assert user.level == level, f"{name} has level {user.level}, should have {level}"
        _line(user, queued[name])


def _classes(sharer: UserQueue | UserGroup, occupied: Counter[str]) -> None:
    """Check the slots of a user or a group in each class of workers that is counted apart."""
    apart = sum(count for name, count in occupied.items() if name)
    assert sharer.apart == apart, f"{sharer.name} counts {sharer.apart} slots of classes, has {apart}"
    for name, use in sharer.classes.items():
        assert use.occupied == occupied[name], f"{sharer.name} counts {use.occupied} {name} slots, has {occupied[name]}"
        level = int(use.occupied / sharer.weight)
        assert use.level == level, f"{sharer.name} has level {use.level} on {name} workers, should have {level}"


def _equipment(state: State) -> None:
    """Check that each attempt is on workers that have what its slice needs; a claimed one may be on others."""
    for hub in state.hubs.values():
        for held in hub.in_flight.values():
            needs, has = held.record.spec.needs, held.group.spec.has
            fits = needs is None or (needs.gpus <= has.gpus and set(needs.features) <= set(has.features))
            assert fits, f"{held.fence} needs {needs}, and is on workers of {hub.name} with {has}"
            kept = needs is None and has.reserved
            assert not kept, f"{held.fence} needs nothing, and is on reserved workers of {hub.name}"


def _line(user: UserQueue, queued: list[Slice]) -> None:
    items = sum(task.items for task in queued)
    single = sum(task.items for task in queued if task.record.job is None)
    assert user.waiting == items, f"{user.name} counts {user.waiting} waiting items, has {items}"
    assert user.single == single, f"{user.name} counts {user.single} waiting outside jobs, has {single}"
    line = list(user.tasks())
    assert len(line) == len(set(line)), f"{user.name} has a slice twice in the line: {line}"
    assert set(line) == set(queued), f"{user.name} has the line {line}, waiting slices are {queued}"
    order = right_order(queued, user.ages)
    assert line == order, f"{user.name} has the line {line}, the right order is {order}"
    best = user.best(-float("inf"), float("inf"))
    assert best is (line[0] if line else None), f"{user.name} has {best} as the next of the line {line}"
    assert user.priorities == sorted(user.levels), f"{user.name} has levels {user.priorities} and {list(user.levels)}"


def right_order(queued: Iterable[Slice], ages: float) -> list[Slice]:
    """Return the slices of one user in the order in which a single worker of all priorities runs them.

    Of the first of each priority, the one with the highest priority comes first, where a priority is gained in each
    1 / `ages` seconds since the acceptance.
    """
    levels: defaultdict[float, list[Slice]] = defaultdict(list)
    for task in sorted(queued, key=lambda task: (task.record.order, task.first), reverse=True):
        levels[task.record.spec.priority].append(task)
    order = []
    while levels:
        best = max(levels, key=lambda level: (level - levels[level][-1].record.since * ages, level))
        order.append(levels[best].pop())
        if not levels[best]:
            del levels[best]
    return order


def _groups(state: State) -> None:
    share = state.share
    for user in share.users.values():
        name = share.of_user[user.name].group if user.name in share.of_user else ""
        group = share.groups.get(name) if name else None
        assert user.group is group, f"{user.name} is in {user.group}, should be in {name or 'no group'}"
    for group in share.groups.values():
        members = [user for user in share.users.values() if user.group is group]
        occupied = sum(user.occupied for user in members)
        assert group.occupied == occupied, f"{group} counts {group.occupied} occupied slots, has {occupied}"
        classes: Counter[str] = Counter()
        for user in members:
            classes.update({name: use.occupied for name, use in user.classes.items()})
        _classes(group, classes)


def _stored(state: State) -> None:
    """Check the stored bytes of each user."""
    stored: Counter[str] = Counter()
    for record in state.records.values():
        weight = record.weight()
        assert record.stored == weight, f"{record.id} counts {record.stored} stored bytes, has {weight}"
        stored[record.user] += weight
    for name, user in state.share.users.items():
        assert user.stored == stored[name], f"{name} counts {user.stored} stored bytes, has {stored[name]}"
    uploads: Counter[str] = Counter()
    for blob in state.blobs.values():
        uploads[blob.user] += blob.payload.nbytes if blob.user else 0
    for name, size in state.share.uploads.items():
        assert size == uploads[name], f"{name} counts {size} uploaded bytes, has {uploads[name]}"


def _turns(state: State) -> None:
    """Check that each user waiting for a band has a valid entry in its line, at the true place or before it."""
    for band in state.share.bands.values():
        band.refresh()
        for group in state.share.groups.values():
            members = [user for user in state.share.users.values() if user.group is group and band.admits(user.name)]
            _entry(band, group, any(user.best(band.low, band.high, band.has) and not user.is_held for user in members))
        for user in state.share.users.values():
            line = band if user.group is None else user.group.line(band)
            if line is not band:
                line.refresh()
            waits = user.best(band.low, band.high, band.has) is not None
            _entry(line, user, band.admits(user.name) and waits and not user.is_held)


def _entry(line: Band, sharer: UserQueue | UserGroup, waits: bool) -> None:
    """Check the entry of a user, or of a group, in a line; one with fewer workers is corrected at the head."""
    entry = line.entries.get(sharer)
    if entry is None:
        assert not waits, f"{sharer.name} waits for {line}, with the entry None"
        return
    valid = [one for one in line.line if one is entry]
    assert len(valid) == 1, f"{sharer.name} has {len(valid)} entries in the line of {line}"
    use = line.use(sharer)
    if entry[0] < use.level and entry[1] <= use.usage:
        return
    true = sharer.turn(line)
    assert entry == true, f"{sharer.name} has the entry {entry} in {line}, should have {true}"


def _blobs(state: State) -> None:
    uses = Counter(name for record in state.records.values() for name in record.blobs)
    for name, blob in state.blobs.items():
        assert blob.uses == uses[name], f"blob {name} counts {blob.uses} users, has {uses[name]}"
    for record in state.records.values():
        for task in record.slices:
            assert not task.code or task.code in record.codes, f"{story(task)} runs the uncounted {task.code}"
        for name in record.blobs:
            assert record.closed or name in state.blobs, f"{record.id} needs blob {name}, which is gone"


def _pins(state: State) -> None:
    names = [name for record in state.records.values() if not record.closed for name in record.spec.depends]
    pins = Counter(needed.id for needed, _ in map(state.needed, names) if needed is not None)
    for record in state.records.values():
        assert record.pins == pins[record.id], f"{record.id} counts {record.pins} pins, has {pins[record.id]}"


def _nobody_waits_in_vain(state: State) -> None:
    for hub in state.hubs.values():
        for group in hub.groups:
            if hub.suspect or group.given >= group.alive:
                continue
            for user in state.share.users.values():
                if user.is_held or not group.band.admits(user.name):
                    continue
                for task in user.tasks():
                    fits = group.band.takes(task.record.spec.priority) and group.runs(task.record.kind)
                    fits = fits and state.placement.is_in_time(task.record, hub)
                    assert not fits, f"{story(task)} waits while a worker of {hub.name} is free for it"


def _nobody_waits_behind_work_ahead(scheduler: Scheduler) -> None:
    """Check that the work last sent ahead delays no user who has fewer workers."""
    users = scheduler.state.share.users.values()
    for held in scheduler.dispatch.sent_ahead:
        group, hub = held.group, held.group.hub
        if hub.in_flight.get(held.fence) is not held:
            continue
        for user in users:
            if lead(held.user, user, group.band) <= 1 or user.is_held or not group.band.admits(user.name):
                continue
            for task in user.tasks():
                fits = group.band.takes(task.record.spec.priority) and group.runs(task.record.kind)
                fits = fits and scheduler.state.placement.is_in_time(task.record, hub)
                text = f"{user.occupied} workers) waits, and {held} of {held.user.name} ({held.user.occupied}) was sent"
                assert not fits, f"{story(task)} of {user.name} ({text} ahead to {hub.name}"
