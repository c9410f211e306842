"""Figures for Prometheus: their names, and the bound on labels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nblb.monitoring import metrics
from tests.monitoring.fake_source import NASTY, FakeSource


def families(answers: dict[str, object]) -> dict[str, dict[tuple[str, ...], float]]:
    text = metrics.exposition(answers).decode()
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


def test_names_and_values() -> None:
    source = FakeSource()
    found = families(
        {
            "status": source.answer_status(),
            "users": source.users,
            "hubs": source.answer_hubs(),
            "stats": source.answer_stats(),
        }
    )
    assert found["nblb_up"] == {(): 1.0}
    assert found["nblb_workers_busy"] == {(): 6.0}
    assert found["nblb_user_running"] == {("anna",): 4.0, ("bert",): 2.0}
    assert found["nblb_hub_load_ratio"] == {("lab1-77",): 0.8}
    assert found["nblb_task_ended"][NASTY,] == 190.0


def test_a_core_that_is_away() -> None:
    assert families({}) == {"nblb_up": {(): 0.0}}


def test_labels_are_bounded() -> None:
    users = [
        {"user": f"u{n}", "queued": 1, "running": 0, "done": 0, "failed": 0, "used_s": float(n)} for n in range(500)
    ]
    found = families({"status": FakeSource().answer_status(), "users": users})["nblb_user_queued"]
    assert len(found) == metrics.MOST_LABELS + 1
    assert found[metrics.OTHER,] == 400.0
    assert ("u499",) in found


@given(st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_prometheus_reads_any_name_back_and_no_sample_comes_twice(names: list[str]) -> None:
    row = {"queued": 1, "running": 0, "done": 0, "failed": 0, "used_s": 1.0}
    hubs = [{"name": name, "hub": f"h{number}", "workers": 1} for number, name in enumerate(names)]
    stats = {name: {"totaltasks": 1, "failed": 0, "totalcalctimes": 1.0} for name in names}
    users = [{"user": name, **row} for name in names]
    answers = {"status": FakeSource().answer_status(), "users": users, "hubs": hubs, "stats": stats}
    text = metrics.exposition(answers).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples]
    assert len(keys) == len(set(keys))
    assert {dict(labels)["task"] for name, labels in keys if name == "nblb_task_ended_total"} == set(names)
    assert sum(name == "nblb_hub_workers" for name, _ in keys) == len(names)


def test_a_name_that_utf_8_cannot_express() -> None:
    assert ("a?b",) in families({"status": FakeSource().answer_status(), "stats": {"a\ud800b": {
        "totaltasks": 1, "failed": 0, "totalcalctimes": 1.0}}})["nblb_task_ended"]  # fmt: skip
