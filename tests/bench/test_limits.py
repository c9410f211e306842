"""The limits that `nblb bench` reports follow from its measurements."""

from __future__ import annotations

from nblb.bench.limits import advise, explain
from nblb.bench.meters import Usage
from nblb.bench.report import BenchReport, Measured

CORES = 4


def usage(waited: float = 0.0, commit_s: float = 0.0, **cpu: float) -> Usage:
    """One second of wall time."""
    parts = {"client": 0.1, "core": 0.1, "hub": 0.1, "workers": 0.1} | cpu
    return Usage(1.0, parts, parts, {"core": waited}, commits=100, commit_s=commit_s)


def limit(measured_usage: Usage, case: str = "submit", **figures: float) -> str:
    return explain(Measured(case, figures, 1000, measured_usage), {"copy_MiB_per_s": 4000, "round_trip_us": 50}, CORES)


def report(load: float = 0.0, **cases: dict[str, float]) -> BenchReport:
    measured = [Measured(name, figures) for name, figures in cases.items()]
    return BenchReport({"name": "lab"}, {"load": [load, load, load], "cores": CORES}, {}, measured)


def test_the_part_that_computes_all_the_time_is_named() -> None:
    assert limit(usage(core=0.95)).startswith("the core, which computes all the time (client 10%, core 95%")
    assert limit(usage(client=0.9)).startswith("this process (the client)")
    assert limit(usage(workers=0.9)).startswith("a worker")


def test_waiting_for_the_disk_is_the_journals() -> None:
    assert limit(usage(core=0.9, commit_s=0.5)) == "the journal: 50% of the time in 100 commits of 5,000 us"


def test_a_busy_machine_is_named_where_no_part_is_full() -> None:
    assert "the core waits 60% of the time for one" in limit(usage(waited=0.6))
    several = Usage(1.0, {"core": 0.7, "workers": 2.8}, {"core": 0.7, "workers": 0.7})  # four workers
    assert "which are all busy" in limit(several)


def test_else_nothing_is_blamed() -> None:
    assert limit(usage(core=0.3)).startswith("no single part: the core computes most")


def test_a_round_trip_is_split_by_part() -> None:
    said = limit(usage(core=0.2, commit_s=0.05), "latency", p50_us=500.0)
    assert "client 100, core 200, hub 100, workers 100 (of the core's, 50 for commits)" in said
    assert said.endswith("in all 10.0 bare ZeroMQ round trips")


def test_arrays_are_told_in_copies() -> None:
    assert limit(usage(), "array_both_ways", MiB_per_s=1000.0).endswith("as long as 4.0 plain copies in memory")


def test_workers_that_hardly_wait_need_no_word() -> None:
    assert limit(usage(workers=0.99), "imbalance", of_ideal=1.02) == "nothing: workers hardly wait"
    assert "a worker" not in limit(usage(workers=0.99), "imbalance", of_ideal=1.5)


def test_what_was_not_measured_has_no_limit() -> None:
    assert not explain(Measured("submit", word="given up"), {}, CORES)


def test_advice_on_small_tasks_names_a_chunk_size() -> None:
    (said,) = advise(
        report(submit={"tasks_per_s": 5000.0}, map_default={"items_per_s": 1e5}, map_chunked={"items_per_s": 1e6})
    )
    assert "A single task costs 200 us" in said
    assert "submit what takes 4.0 ms or more" in said
    assert "an item of a map costs 10.0 us (0.2 ms or more)" in said
    assert "chunksize=2000" in said


def test_advice_on_a_slow_disk_names_the_folder() -> None:
    slow = report()
    slow.cases.append(Measured("latency", {}, 100, usage(commit_s=0.9)))
    assert advise(slow, "/nfs/lab") == [
        "The disk takes 9.0 ms a commit: name a folder on a local disk with LB_STATE_DIR (it is /nfs/lab now)."
    ]


def test_a_busy_machine_is_said_first() -> None:
    assert advise(report(load=9.0))[0].startswith("This machine was busy with other things (load 9 on 4 cores)")
    assert not advise(report(load=0.5))
