"""The index finds the same least loaded group with free capacity as a search of all groups."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, HubHello, SubmitTask, TaskState
from nblb.scheduling.fair_share import FairShare
from nblb.scheduling.free_capacity import ByLoad
from nblb.scheduling.hubs import GroupOfWorkers, Hub
from nblb.scheduling.placement import Placement, holds_inputs
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Submission

BANDS = ((0.0, 10.0), (5.0, 15.0), (0.0, 100.0))  # two as wide as each other, and one around them


class Floor:
    """Hubs that each have a group in each band."""

    def __init__(self, hubs: int, workers: int) -> None:
        share, self.placement = FairShare(100.0), Placement(prefetch_s=0.010)
        self.groups: list[GroupOfWorkers] = []
        self.hubs: list[Hub] = []
        for number in range(hubs):
            specs = tuple(Group(workers, *band) for band in BANDS)
            hello = HubHello(
                hub=f"{number}", name=f"h{number}", host="", pid=1, python=(3, 11), cloudpickle="", groups=specs
            )
            hub = Hub(f"hub:{number}", hello, 0.0)
            hub.groups = [
                GroupOfWorkers(hub, at, spec, share.band(spec.minP, spec.maxP)) for at, spec in enumerate(specs)
            ]
            self.placement.add(hub)
            for group in hub.groups:
                group.workers_changed(workers)
            self.hubs.append(hub)
            self.groups += hub.groups

    def best(self, record: Submission, ahead_s: float | None) -> list[GroupOfWorkers]:
        """All groups that are as good as any: a look at each of them, by rule 4 of docs/scheduling.md."""
        ranked = []
        for group in self.groups:
            hub, has_free = group.hub, group.given < group.alive
            fits = group.band.takes(record.spec.priority) and not hub.suspect and hub.runs(record.kind)
            room = has_free if ahead_s is None else not has_free and group.has_room(ahead_s, 0.010)
            if fits and room:
                lacks, load = not holds_inputs(hub, record), group.given / group.alive
                width = group.band.high - group.band.low
                rank = (lacks, width, load) if ahead_s is None else (width, group.band.low, lacks, load)
                ranked.append((rank, group))
        return [group for rank, group in ranked if rank == min(r for r, _ in ranked)]


def choose(placement: Placement, task: Slice) -> GroupOfWorkers | None:
    """A free worker, or else one to whom it is sent ahead, band by band as the dispatch does."""
    group = placement.choose_free(task.record)
    for band in placement.bands:
        if group is None and band.takes(task.record.spec.priority):
            group = placement.choose_ahead(task.record, 1, band)
    return group


def a_task(priority: float, function: str, python: tuple[int, int]) -> Slice:
    spec = SubmitTask(task="t", name="f", function=function, payload=Payload((b"",)), priority=priority, python=python)
    return Submission(spec, "anna", 1, 0.0, None).begin(TaskState.QUEUED, 0.0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["place", "place", "place", "end", "hold", "suspect", "leave"]),
        st.sampled_from([0.0, 5.0, 7.0, 12.0, 50.0, 200.0]),  # priority
        st.sampled_from(["f", "f", "g"]),
        st.sampled_from([(0, 0), (0, 0), (3, 10)]),
        st.integers(0, 1000),
    ),
    max_size=60,
)


@given(hubs=st.integers(1, 4), workers=st.integers(1, 3), seconds=st.sampled_from([0.001, 0.004, 1.0]), steps=steps)
def test_the_choice_is_the_simple_rules(hubs: int, workers: int, seconds: float, steps: list[tuple]) -> None:
    floor = Floor(hubs, workers)
    placement = floor.placement
    given_to: list[tuple[GroupOfWorkers, float]] = []
    for what, priority, function, python, n in steps:
        task = a_task(priority, function, python)
        if what == "place":
            placement.estimates.learn(task.record, seconds, 1)
            estimate = placement.estimates.slice_s(task.record, 1) or 0.0
            best = floor.best(task.record, None)
            if not best and estimate <= 0.010:
                best = floor.best(task.record, estimate)
            chosen = choose(placement, task)
            assert chosen in best if best else chosen is None
            if chosen is not None:
                chosen.work_changed(1, estimate)
                given_to.append((chosen, estimate))
        elif what == "end" and given_to:
            group, estimate = given_to.pop(n % len(given_to))
            group.work_changed(-1, -estimate)
        elif what == "hold" and floor.hubs:
            floor.hubs[n % len(floor.hubs)].holds.add(function)
        elif what == "suspect" and floor.hubs:
            hub = floor.hubs[n % len(floor.hubs)]
            hub.suspect = not hub.suspect
        elif what == "leave" and n % 5 == 0 and floor.hubs:
            hub = floor.hubs.pop(n % len(floor.hubs))
            placement.remove(hub)
            floor.groups = [group for group in floor.groups if group.hub is not hub]
            given_to = [one for one in given_to if one[0].hub is not hub]


class Loaded:
    def __init__(self, load: float) -> None:
        self.load = load


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans()), max_size=200))
def test_the_least_loaded_comes_first_and_of_equals_the_one_that_was_here_first(steps: list[tuple]) -> None:
    line, groups, here = ByLoad(), [Loaded(0.0) for _ in range(6)], []
    for which, load, stays in steps:
        group = groups[which]
        group.load = load / 10
        if stays:
            line.put(group)  # type: ignore[arg-type]
            if group not in here:
                here.append(group)
        elif group in here:
            line.leave(group)  # type: ignore[arg-type]
            here = [one for one in here if one is not group]
        assert line.first() is min(here, key=lambda one: one.load, default=None)
        assert list(line) == here
        assert len(line._heap) <= 64 + 4 * 6


def test_only_groups_with_work_ahead_are_full() -> None:
    """So dispatch compares no users for work ahead, and recall no groups, where every worker has one long slice."""
    floor = Floor(hubs=1, workers=2)
    group = floor.groups[0]
    group.work_changed(2, 100.0)
    assert group not in group.room.free
    assert group not in group.room.ahead
    assert not group.room.full
    group.work_changed(1, 100.0)
    assert list(group.room.full) == [group]
    group.work_changed(-1, -100.0)
    assert not group.room.full
    group.workers_changed(-1)
    assert list(group.room.full) == [group]
    group.workers_changed(-1)
    assert not group.room.full
