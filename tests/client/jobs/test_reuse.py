"""A job that takes over the name of another: the results that it reuses, and the fate of the earlier job."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nblb import payload
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.jobs import reuse
from nblb.payload import pack_calls
from nblb.protocol.messages import CancelTask, SubmitTask
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@task_decorator.task
def square(x: int) -> int:
    return x * x


def submitted(core: FakeCore) -> dict[str, int]:
    """Items by the name of their records."""
    items: dict[str, int] = {}
    for spec in core.said(SubmitTask):
        items[spec.name] = items.get(spec.name, 0) + spec.items
    return items


def test_a_longer_sweep_computes_what_is_new(make_cluster: Callable[[], Cluster], core: FakeCore) -> None:
    make_cluster()
    first = square.map(range(100), job="sweep")
    assert first.wait(60)
    make_cluster()  # another kernel
    longer = square.map(range(250), job="sweep")
    assert longer.results(60) == [x * x for x in range(250)]
    assert submitted(core) == {"square": 100 + 150, "square (taken)": 100}
    assert longer.earlier is not None
    assert (longer.earlier.job_id, longer.earlier.taken, longer.earlier.left) == (first.job_id, 100, 0)
    assert longer.earlier.changed == "arguments"
    again = square.map(range(250), job="sweep")
    assert again is longer


def test_what_is_taken_is_there_at_once_and_the_core_has_it_for_later_kernels(
    make_cluster: Callable[[], Cluster], core: FakeCore
) -> None:
    make_cluster()
    square.map([*range(5), 7, *range(5, 7)], job="sweep").wait(60)
    core.hold = True
    job = square.map([*range(7), 99], job="sweep")
    assert job.counts() == {"DONE": 7, "QUEUED": 1}
    assert [future.result(60) for future in (job[0], job[6])] == [0, 36]
    assert list(zip(range(7), job, strict=False)) == [(x, x * x) for x in range(7)]
    wait_until(lambda: sum(spec.items for spec in core.specs.values()) == 8 + 8)
    core.run()
    assert job.results(60) == [x * x for x in [*range(7), 99]]
    make_cluster()
    assert square.map([*range(7), 99], job="sweep").results(60) == [x * x for x in [*range(7), 99]]
    assert submitted(core) == {"square": 8 + 1, "square (taken)": 7}


def test_items_are_known_by_their_arguments_wherever_they_stand(cluster: Cluster, core: FakeCore) -> None:
    square.map([1, 2, 3], job="sweep").wait(60)
    job = square.map([0, 3, 2, 1], job="sweep")
    assert job.results(60) == [0, 9, 4, 1]
    assert submitted(core) == {"square": 3 + 1, "square (taken)": 3}


def test_equal_arguments_are_not_one_draw(cluster: Cluster, core: FakeCore) -> None:
    square.map([0] * 5, job="draws").wait(60)
    square.map([0] * 8, job="draws").wait(60)
    assert submitted(core) == {"square": 5 + 3, "square (taken)": 5}


def test_other_code_computes_everything(cluster: Cluster, core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    square.map(range(3), job="sweep").wait(60)

    @task_decorator.task
    def cube(x: int) -> int:
        return x**3

    job = cube.map(range(3), job="sweep")
    assert job.results(60) == [0, 1, 8]
    assert submitted(core) == {"square": 3, "cube": 3}
    assert job.earlier is not None
    assert job.earlier.changed == "code"
    assert "takes over the name; the earlier job (other code) has ended" in caplog.text


def test_what_a_cancelled_job_had_finished_is_not_lost(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    first = square.map(range(1500), job="sweep")  # two records
    wait_until(lambda: len(core.specs) == 2)
    core.run(next(iter(core.specs)))
    first.cancel()
    assert first.wait(60)
    core.hold = False
    again = square.map(range(1500), job="sweep")
    assert again.results(60) == [x * x for x in range(1500)]
    assert again.earlier is not None
    assert again.earlier.taken == 1024
    assert "was cancelled; 1,024 results" in repr(again.earlier)


@pytest.mark.parametrize(
    ("supersede", "cancelled", "fate"), [("ask", 0, ""), ("cancel", 1, "cancel"), ("keep", 0, "keep")]
)
def test_what_is_left_of_the_earlier_one_is_a_choice(
    cluster: Cluster, core: FakeCore, caplog: pytest.LogCaptureFixture, supersede: str, cancelled: int, fate: str
) -> None:
    core.hold = True
    first = square.map(range(10), job="sweep")
    wait_until(lambda: core.specs)
    second = square.map(range(20), job="sweep", supersede=supersede)
    earlier = second.earlier
    assert earlier is not None
    row = second.snapshot().earlier
    assert row is not None
    assert (row.job, row.items, row.fate) == (first.job_id, 10, fate)
    assert row.left == 10 or cancelled  # which may have happened already
    assert ("job.earlier.cancel() ends them" in caplog.text) is (supersede == "ask")
    wait_until(lambda: len(core.said(CancelTask)) == cancelled)
    if not cancelled:
        earlier.cancel()
    assert first.wait(60)
    wait_until(lambda: "was cancelled" in repr(earlier))
    assert earlier.attach() is first
    core.run()
    assert second.results(60) == [x * x for x in range(20)]


def test_another_choice_is_a_mistake(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="must be one of 'ask', 'cancel', 'keep'"):
        square.map(range(3), job="sweep", supersede="both")


def test_a_result_that_cannot_be_loaded_is_computed_again(
    cluster: Cluster, core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    square.map(range(3), job="sweep").wait(60)

    def fails(_: object) -> None:
        raise ImportError("no such class any more")

    with monkeypatch.context() as broken:
        broken.setattr(payload, "unpack_each_result", fails)
        job = square.map(range(4), job="sweep")
    assert job.results(60) == [0, 1, 4, 9]
    assert submitted(core) == {"square": 3 + 4}


def test_results_too_large_to_take_are_computed_again(
    cluster: Cluster, core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "MOST_TAKEN_BYTES", 10)
    square.map(range(3), job="sweep").wait(60)
    assert square.map(range(4), job="sweep").results(60) == [0, 1, 4, 9]
    assert submitted(core) == {"square": 3 + 4}


def test_marks_are_none_where_items_cannot_be_told_apart() -> None:
    calls = [((x,), {}) for x in range(4)]
    assert reuse.marks([payload.pack_chunk(calls)]) == ""
    text = reuse.marks(list(pack_calls(calls)))
    assert len(reuse._each(text)) == 4
    large = [((bytes(100_000),), {}), *calls]  # a record of its own
    assert reuse._each(reuse.marks(list(pack_calls(large))))[1:] == reuse._each(text)
    assert reuse.marks(list(pack_calls(((x,), {}) for x in range(reuse.MOST_MARKED + 1)))) == ""
