"""The slices of a submission: however it is cut, they partition its items."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nblb.protocol.framing import PIECE, Payload
from nblb.protocol.messages import OpenJob, SubmitTask, TaskState
from nblb.scheduling.submission import Submission, SubmittedJob

ITEMS = 12


def a_record(job: SubmittedJob | None = None) -> Submission:
    payload = Payload((bytes(range(ITEMS)),), [1] * ITEMS)
    record = Submission(SubmitTask(task="t", name="f", items=ITEMS, split=True, payload=payload), "anna", 1, 0.0, job)
    record.begin(TaskState.QUEUED, 0.0)
    return record


def bounds(record: Submission) -> list[tuple[int, int]]:
    return [(task.first, task.items) for task in record.slices]


@given(st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(1, ITEMS))))
def test_carving_keeps_the_partition(cuts: list[tuple[int, int]]) -> None:
    record = a_record()
    for first, items in cuts:
        task = record.at(first)
        items = min(items, task.first + task.items - first)
        piece = record.carve(task, first, items)
        assert (piece.first, piece.items) == (first, items)
        at = 0
        for one in record.slices:
            assert one.first == at
            at += one.items
        assert at == ITEMS
        assert record.at(first) is piece


def test_take_cuts_the_front_and_leaves_the_rest_its_place() -> None:
    record = a_record()
    rest = record.slices[0]
    taken = record.take(rest, 5)
    assert bounds(record) == [(0, 5), (5, 7)]
    assert record.slices == [taken, rest]
    assert bytes(record.payload_of(taken).buffers[0]) == bytes(range(5))
    assert bytes(record.payload_of(rest).buffers[0]) == bytes(range(5, 12))


def test_of_a_payload_in_pieces_a_slice_gets_all_that_it_touches() -> None:
    items = 2 * PIECE + 2
    payload = Payload((b"abc",), [1, 1, 1])
    record = Submission(SubmitTask(task="t", name="f", items=items, split=True, payload=payload), "anna", 1, 0.0, None)
    record.begin(TaskState.QUEUED, 0.0)
    for first, number, text in (PIECE - 1, 1, b"a"), (PIECE, 1, b"b"), (PIECE + 1, PIECE, b"bc"), (items - 1, 1, b"c"):
        task = record.carve(record.at(first), first, number)
        assert bytes(record.payload_of(task).buffers[0]) == text


def test_covering_gives_the_slices_that_hold_some_of_the_items() -> None:
    record = a_record()
    record.carve(record.at(4), 4, 4)
    assert bounds(record) == [(0, 4), (4, 4), (8, 4)]
    assert [t.first for t in record.covering(3, 2)] == [0, 4]
    assert [t.first for t in record.covering(4, 4)] == [4]
    assert [t.first for t in record.covering(0, ITEMS)] == [0, 4, 8]


def test_sums_follow_the_slices() -> None:
    job = SubmittedJob(OpenJob(job="j", name="sweep", items=ITEMS), "anna", 0.0)
    record = a_record(job)
    job.records[record.id] = record
    piece = record.take(record.slices[0], 5)
    for cause in ("RunTask", "TaskStarted", "TaskFinished"):
        piece.move(cause, 1.0)
    assert record.unended == 7
    assert not record.done
    assert {state: n for state, n in job.counts.items() if n} == {TaskState.DONE: 5, TaskState.QUEUED: 7}
    assert job.unended == 7
    record.slices[1].move("CancelTask", 2.0)
    assert record.unended == 0
    assert not record.done
    job.leave(record)
    assert not job.records
    assert not any(job.counts.values())


def test_arguments_are_dropped_when_nothing_can_run_again() -> None:
    record = a_record()
    record.release_arguments()
    assert record.spec.payload.nbytes == 0
    assert record.spec.task == "t"
