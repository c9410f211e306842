"""Histograms of times, and the spans of the timeline."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import CancelTask, Group, SubmitTask, TaskEnded, TaskState
from nblb.scheduling.reporting import observations
from nblb.scheduling.reporting.observations import Histogram
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 1.0, 3.0, 86_400.0])
def test_percentiles_are_near(scale: float) -> None:
    draws = sorted(scale * random.Random(1).lognormvariate(0.0, 1.0) for _ in range(2_000))
    histogram = Histogram()
    for seconds in draws:
        histogram.add(seconds, 1)
    for share in (0.05, 0.5, 0.95):
        exact = max(draws[int(share * len(draws))], 1e-6)
        assert histogram.percentile(share) == pytest.approx(exact, rel=0.25)
    assert len(histogram.buckets) < 100


def test_nothing_observed() -> None:
    assert Histogram().percentile(0.5) == 0.0
    zero = Histogram()
    zero.add(0.0, 5)
    assert 0.0 < zero.percentile(0.9) < 2e-6


def test_a_span_for_what_has_run_and_none_for_what_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    hub = world.hub("lab", (Group(1, 0, 100),))
    for name in ("a", "b"):
        world.say(ANNA, SubmitTask(task=name, name="work", function="f", payload=Payload((b"x",)), items=2))
    world.tick()
    world.say(ANNA, CancelTask(request=1, task="b"))
    world.now += 5.0
    world.fact(hub, hub.finish(("a", 0, 1), failures=(1,), duration_s=3.0))
    spans = list(world.scheduler.state.observations.spans)
    assert {(span.task, span.user, span.host, span.state) for span in spans if span.state == "DONE"} == {
        ("a", "anna", "lab.lab", "DONE")
    }
    assert "b" not in {span.task for span in spans}
    assert spans[0].end == world.scheduler.state.wall(world.now)
    monkeypatch.setattr(observations, "MOST_NAMES", 1)
    world.say(ANNA, SubmitTask(task="c", name="later", function="f", payload=Payload((b"x",))))
    world.tick()
    world.fact(hub, hub.finish(("c", 0, 1)))
    assert list(world.scheduler.state.observations.run) == ["later"]


def test_of_many_ends_a_second_a_part_stands_for_all() -> None:
    seen = observations.Observations()
    record = SimpleNamespace(id="r", user="anna", spec=SimpleNamespace(name="work", job=""))
    for number in range(20_500):
        # Half of the calls take a millisecond and half two; the clock is set back once.
        at = 1000.0 + number / 10_000 - (500.0 if number > 10_000 else 0.0)
        slice_ = SimpleNamespace(record=record, items=1, first=number, queued_at=0.0)
        ended = TaskEnded(task="r", state=TaskState.DONE, duration_s=0.001 * (1 + number % 2), ended_at=at)
        seen.ended(slice_, ended, 0.0)  # type: ignore[arg-type]
    counted = sum(seen.run["work"].buckets.values())
    assert counted == pytest.approx(20_500, rel=0.02)
    assert len(seen.spans) < 3 * observations.MOST_PER_S + 20_500 / observations.THINNED + 3
