"""The public members of futures, jobs and clusters: only what is meant for users."""

from __future__ import annotations

import nblb as lb
from nblb.client import task_decorator
from nblb.client.cluster import Cluster

FUTURE = """add_done_callback attempt cancel cancelled displays done duration_s emitted ended_at exception frames
    host kept knobs name note on_emit output peak_mb progress read_output rerun_here result running snapshot state
    stderr stdout stop_and_keep story task_id turn wait why worker"""
JOB = """as_completed cancel counts dataframe displays done earlier emitted failed forget job_id kept knobs live name
    on_emit result results retry_failed snapshot stop_and_keep summary turn wait"""
INNER = """settle reject show never_sent connection_closed turned add_listener remove_listener finish received printed
    printed_after latest_output recall recall_output notify_emitted add_record has_record record_ids attached
    lose reopen reopened reconnected counted said live_of states marked_states fingerprint task_name code
    retried_with"""


def public(thing: object) -> list[str]:
    return sorted(name for name in dir(thing) if not name.startswith("_"))


def test_a_future_shows_what_is_for_its_user(cluster: Cluster) -> None:
    future = task_decorator.task(lambda x: x).submit(1)
    assert public(future) == FUTURE.split()
    assert future.result(60) == 1
    assert public(future) == FUTURE.split(), "what is kept of its end stays inside"


def test_a_job_shows_what_is_for_its_user(cluster: Cluster) -> None:
    job = task_decorator.task(lambda x: x).map(range(3))
    assert job.results(60) == [0, 1, 2]
    assert public(job) == JOB.split()


def test_the_methods_of_concurrent_futures_are_all_there(cluster: Cluster) -> None:
    future = task_decorator.task(lambda x: x).submit(1)
    for name in ("set_result", "set_exception", "set_running_or_notify_cancel"):
        assert callable(getattr(future, name)), "wait() and asyncio.wrap_future call them"


def test_the_inner_side_is_no_name_of_a_public_class(cluster: Cluster) -> None:
    for kind in (lb.TaskFuture, lb.Job, lb.Cluster):
        assert not {*INNER.split()} & {*public(kind)}
    assert not {"session", "add_listener"} & {*public(cluster)}
