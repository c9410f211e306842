"""The sentences about limits: why a submission is refused, or why a waiting call may not start, and until when."""

from __future__ import annotations

from nblb.protocol.messages import SubmitTask
from nblb.quantities import duration, size
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import UserGroup
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State

MOST_LOOKED_AT = 10_000  # results whose expiry is looked at for a sentence


def most_queued(state: State, user: UserQueue) -> tuple[int, str]:
    """Return how many waiting tasks of a user compete at once (0: all), and which limit that is."""
    own, group = user.limits.max_queued, user.group
    limit, which = state.policy.max_queued, "of one user that compete at once (LB_QUEING_MAXPERUSER)"
    if own:
        limit, which = own, f"of {user.name} that compete at once (max-queued)"
    if group is not None and group.limits.max_queued and (not limit or group.limits.max_queued < limit):
        limit, which = group.limits.max_queued, f"of group {group.name} that compete at once (max-queued)"
    return limit, which


def full_queue(state: State, user: UserQueue) -> tuple[int, str]:
    """Return the limit that a user's waiting tasks outside jobs have reached, and which it is; (0, "") if none."""
    own, group = user.limits.max_queued, user.group
    limit = own or state.policy.max_queued
    if 0 < limit <= user.single:
        return limit, f"max-queued of {user.name}" if own else "LB_QUEING_MAXPERUSER"
    if group is not None and group.limits.max_queued > 0:
        waiting = sum(each.single for each in state.share.users.values() if each.group is group)
        if waiting >= group.limits.max_queued:
            return group.limits.max_queued, f"max-queued of group {group.name}"
    return 0, ""


def holds_back(state: State, task: Slice, now: float) -> str:
    """Return the sentence about the limit that holds this waiting slice back; "" if none does."""
    user = task.record.owner
    for sharer in (user, user.group):
        most = sharer.most if sharer is not None else 0
        if sharer is None or not 0 < most <= sharer.occupied:
            continue
        until_s = _until_one_ends(state, sharer, now)
        when = f", which is in about {duration(until_s)}" if until_s else ""
        return (
            f"waiting: {sharer.limits.whose} may run {most:,} at once (max-running), and {sharer.occupied:,} run; the "
            f"next one starts when one of them ends{when}"
        )
    return ""


def _until_one_ends(state: State, sharer: UserQueue | UserGroup, now: float) -> float:
    """Return the shortest expected time until a slice of a user or a group ends; 0.0 if it is unknown."""
    times = []
    for hub in state.hubs.values():
        for held in hub.in_flight.values():
            one = state.placement.estimates.item_s(held.record)
            if held.wait or one is None or sharer not in (held.user, held.user.group):
                continue
            begun = now - held.started_at if held.started_at else 0.0
            times.append(max(0.0, one * held.items - begun))
    return min(times, default=0.0)


def refusal(state: State, spec: SubmitTask, now: float) -> tuple[str, str] | None:
    """Return the kind and the sentence of the refusal, if the submission would exceed a limit of stored bytes."""
    share = state.share
    if not share.of_user:
        return None
    user = share.user(spec.user)
    named = (state.blobs.get(name) for name in dict.fromkeys((spec.function, *spec.constants)))
    more = spec.payload.nbytes + sum(blob.payload.nbytes for blob in named if blob is not None and not blob.user)
    for sharer in (user, user.group):
        if sharer is None or not sharer.limits.max_bytes:
            continue
        has = share.stored(sharer)
        if has + more > sharer.limits.max_bytes:
            return "QuotaExceeded", (
                f"task {spec.name} is refused: {sharer.limits.whose} may store {size(sharer.limits.max_bytes)} "
                f"(max-bytes), {size(has)} are stored, and this would add {size(more)}; forget jobs whose "
                f"results you have (job.forget()){_until(state, sharer, now)}"
            )
    return None


def _until(state: State, sharer: UserQueue | UserGroup, now: float) -> str:
    """Return when the first of the stored results expires, as the end of a sentence; "" if that is unknown."""
    expires = [
        at
        for at, _, record in state.expiring[:MOST_LOOKED_AT]
        if record.expires == at and record.stored and sharer in (record.owner, record.owner.group)
    ]
    return f", or wait: the first of them expires in {duration(max(0.0, min(expires) - now))}" if expires else ""
