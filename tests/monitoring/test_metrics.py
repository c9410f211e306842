"""Figures for Prometheus: their names, and the bound on labels."""

from __future__ import annotations

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
