"""Dependencies of a submission: results of others, or an equal call that is already being computed.

A needed result belongs to a whole submission or to one item of it; in the second case the other items do not matter.

A waiting submission is BLOCKED. It is queued when everything it needs is DONE, and fails with the first that ends
otherwise. With cache=True, a call of the same function with the same arguments follows the submission that computes
it and receives that result; if that one has no result, its first follower computes, and the others follow that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from nblb.protocol.messages import ENDED, Failure, TaskState
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import WHOLE, Submission

if TYPE_CHECKING:
    from nblb.scheduling.state import State

Need: TypeAlias = "tuple[Submission, int]"  # a submission, and the needed item or WHOLE
Obstacle: TypeAlias = "Submission | str | list[Need] | None"  # followed, reason to fail, waited for, nothing


def pin(state: State, record: Submission) -> None:
    """Keep the results that this submission needs from expiring before it has ended."""
    for name in record.spec.depends:
        needed, item = state.needed(name)
        if needed is None:
            continue
        needed.pins += 1
        if item != WHOLE:
            if needed.needed_items is None:
                needed.needed_items = set()
            needed.needed_items.add(item)


def unpin(state: State, record: Submission) -> None:
    for name in record.spec.depends:
        needed, _ = state.needed(name)
        if needed is not None:
            needed.pins -= 1


def obstacle(state: State, record: Submission) -> Obstacle:
    """Return what keeps the submission from being queued; it becomes its cache entry's source if there is none."""
    if record.shares:
        source = state.cache.setdefault(record.spec.cache, record)
        if source is not record and not record.spec.fresh and (source.unended or source.serves):
            return source
        state.cache[record.spec.cache] = record
    waits: list[Need] = []
    for name in dict.fromkeys(record.spec.depends):
        needed, item = state.needed(name)
        if needed is None:
            return f"it needs the result of task {name}, which has been dropped"
        if needed.is_open(item):
            waits.append((needed, item))
        elif not needed.has_result(item):
            return _reason(needed, item)
    return waits or None


def block(state: State, record: Submission, because: Obstacle, now: float) -> None:
    """Make the BLOCKED slices of the submission wait, or end them, depending on the obstacle."""
    if isinstance(because, Submission):
        if because.unended:
            because.followers = [*(because.followers or ()), record]
            record.follows = because
        else:
            serve(state, record.slices[0], because, now)
    elif isinstance(because, str):
        fail_blocked(state, record, because, now)
    else:
        record.blocked_on = len(because or ())
        for needed, item in because or ():
            if needed.dependents is None:
                needed.dependents = {}
            needed.dependents.setdefault(item, []).append(record)


def untie(state: State, record: Submission) -> None:
    """Remove the submission from everything that it waits for."""
    source, record.follows = record.follows, None
    if source is not None and source.followers is not None and record in source.followers:
        source.followers.remove(record)
    for name in dict.fromkeys(record.spec.depends):
        needed, item = state.needed(name)
        waiting = (needed.dependents or {}).get(item, []) if needed is not None else []
        if record in waiting:
            waiting.remove(record)


def wake(state: State, record: Submission, items: range, now: float) -> None:
    """Notify the submissions that wait for one of these items of `record`, which have ended."""
    waiting = record.dependents or {}
    for item in [item for item in (items if len(items) < len(waiting) else list(waiting)) if item in items]:
        _wake(state, record, item, waiting.pop(item, ()), now)


def wake_all(state: State, record: Submission, now: float) -> None:
    """Notify the submissions that wait for all of `record`, which has ended."""
    serves = record.serves
    source = state.cache.get(record.spec.cache) if record.spec.cache and record.items == 1 else None
    if source is record and not serves:
        del state.cache[record.spec.cache]
    elif source is not None and serves and not source.done and not source.spec.fresh:
        state.cache[record.spec.cache] = record  # the result is here already
    followers, record.followers = record.followers, None
    for follower in followers or ():
        _follow(state, follower, record if serves else None, now)
    dependents, record.dependents = record.dependents, None
    for item, waiting in (dependents or {}).items():
        _wake(state, record, item, waiting, now)


def _wake(state: State, record: Submission, item: int, waiting: Iterable[Submission], now: float) -> None:
    """Continue or fail submissions whose dependency has ended."""
    done = record.has_result(item)
    for dependent in waiting:
        if not done:
            fail_blocked(state, dependent, _reason(record, item), now)
            continue
        dependent.blocked_on -= 1
        if dependent.blocked_on == 0:
            queue_blocked(state, dependent, now)


def queue_blocked(state: State, record: Submission, now: float) -> None:
    """Queue the BLOCKED slices, which now have all they need."""
    for task in record.slices:
        if task.state is TaskState.BLOCKED and not task.follows:
            task.move("DependenciesDone", now)
            state.enqueue(task)
            state.notice(task, now)


def fail_blocked(state: State, record: Submission, reason: str, now: float) -> None:
    """Fail a submission whose dependency did not succeed; it no longer waits for the others unless it is retried."""
    untie(state, record)
    for task in [task for task in record.slices if task.state is TaskState.BLOCKED and not task.follows]:
        state.fail(task, "DependencyFailed", Failure(kind="DependencyFailed", message=reason), now)


def _follow(state: State, follower: Submission, source: Submission | None, now: float) -> None:
    """Take the result of the ended computation that this submission followed, or compute it if there is none."""
    follower.follows = None
    if follower.closed or follower.slices[0].state in ENDED:  # it was cancelled, and perhaps dropped since
        return
    if source is not None:
        serve(state, follower.slices[0], source, now)
        return
    because = obstacle(state, follower)
    if because is None:
        queue_blocked(state, follower, now)
    else:
        block(state, follower, because, now)


def serve(state: State, task: Slice, source: Submission, now: float) -> None:
    """End a slice of one call with the result of another submission."""
    ended = source.slices[0].ended
    assert ended is not None
    task.move("CacheHit", now)
    own = msgspec.structs.replace(
        ended,
        task=task.record.id,
        attempt=task.attempt,
        duration_s=0.0,
        worker="cache",
        host="",
        ended_at=state.wall(now),
    )
    state.finish([task], own, now)


def _reason(needed: Submission, item: int) -> str:
    slices = needed.slices if item == WHOLE else [needed.at(item)]
    bad = next((task for task in slices if task.state is not TaskState.DONE), slices[0])
    text = f"it needs the result of task {needed.spec.name} ({bad.id}), which is {bad.state}"
    cause = bad.ended.failure if bad.ended is not None else None
    if cause is None or not cause.message:
        return text
    # Along a chain a person needs the first cause, not a sentence that grows with each link.
    return cause.message if cause.kind == "DependencyFailed" else f"{text}: {cause.kind}: {cause.message}"
