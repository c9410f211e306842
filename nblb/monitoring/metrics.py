"""Figures for Prometheus, in its text format, made from one round of answers; labels are bounded in number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_LABELS = 100  # users, hubs and task names; the others are summed as "other"
OTHER = "other"


class Answers:
    """A collector of the answers of one moment."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers

    def collect(self) -> Iterable[Metric]:
        status: Mapping[str, Any] = self._answers.get("status") or {}
        counts: Mapping[str, Any] = status.get("counts") or {}
        up = GaugeMetricFamily("nblb_up", "1 while the core answers.")
        up.add_metric([], 1.0 if status else 0.0)
        yield up
        if not status:
            return
        for name, words, value in (
            ("nblb_workers", "Workers of all hubs.", status.get("workers")),
            ("nblb_workers_busy", "Workers that run a task.", status.get("busy")),
            ("nblb_hubs", "Connected hubs.", status.get("hubs")),
            ("nblb_clients", "Connected clients.", status.get("clients")),
            ("nblb_tasks_queued", "Calls that wait.", status.get("queued")),
            ("nblb_tasks_running", "Calls that run.", status.get("running")),
            ("nblb_uptime_seconds", "Time since the core began.", status.get("uptime_s")),
            ("nblb_journal_bytes", "Size of the journal.", (status.get("disk") or {}).get("journal")),
            ("nblb_journal_disk_free_bytes", "Free space on its disk.", (status.get("disk") or {}).get("free")),
        ):
            gauge = GaugeMetricFamily(name, words)
            gauge.add_metric([], float(value or 0.0))
            yield gauge
        ended = CounterMetricFamily("nblb_tasks_ended", "Calls that have ended.", labels=["state"])
        for state in ("DONE", "FAILED"):
            ended.add_metric([state.lower()], float(counts.get(state) or 0.0))
        yield ended
        journal = status.get("journal") or {}
        commits = CounterMetricFamily("nblb_journal_commits", "Commits of the journal.")
        commits.add_metric([], float(journal.get("commits") or 0.0))
        yield commits
        seconds = CounterMetricFamily("nblb_journal_commit_seconds", "Time spent in commits.")
        seconds.add_metric([], float(journal.get("commit_s") or 0.0))
        yield seconds
        yield from self._users()
        yield from self._hubs()
        yield from self._names()

    def _users(self) -> Iterable[Metric]:
        rows = _bounded(self._answers.get("users") or [], "user", "used_s")
        running = GaugeMetricFamily("nblb_user_running", "Calls of a user that run.", labels=["user"])
        queued = GaugeMetricFamily("nblb_user_queued", "Calls of a user that wait.", labels=["user"])
        used = CounterMetricFamily("nblb_user_worker_seconds", "Worker time of a user.", labels=["user"])
        ended = CounterMetricFamily("nblb_user_ended", "Calls of a user that have ended.", labels=["user", "state"])
        for user, row in rows.items():
            running.add_metric([user], row["running"])
            queued.add_metric([user], row["queued"])
            used.add_metric([user], row["used_s"])
            ended.add_metric([user, "done"], row["done"])
            ended.add_metric([user, "failed"], row["failed"])
        return running, queued, used, ended

    def _hubs(self) -> Iterable[Metric]:
        load = GaugeMetricFamily("nblb_hub_load_ratio", "CPU use of the hub's machine, 0 to 1.", labels=["hub"])
        memory = GaugeMetricFamily("nblb_hub_memory_ratio", "Memory in use of its machine, 0 to 1.", labels=["hub"])
        workers = GaugeMetricFamily("nblb_hub_workers", "Workers of the hub.", labels=["hub"])
        seen: set[str] = set()
        for hub in (self._answers.get("hubs") or [])[:MOST_LABELS]:
            label = _clean(hub.get("name"))
            if label in seen:  # two computers of one name; Prometheus takes no sample twice
                label = f"{label} {_clean(hub.get('hub'))}"
            seen.add(label)
            name = [label]
            load.add_metric(name, float(hub.get("load") or 0.0))
            memory.add_metric(name, float(hub.get("memory") or 0.0))
            workers.add_metric(name, float(hub.get("workers") or 0.0))
        return load, memory, workers

    def _names(self) -> Iterable[Metric]:
        found = [{"name": name, **stats} for name, stats in (self._answers.get("stats") or {}).items()]
        rows = _bounded(found, "name", "totalcalctimes")
        tasks = CounterMetricFamily("nblb_task_ended", "Ended calls by task name.", labels=["task"])
        failed = CounterMetricFamily("nblb_task_failed", "Failed calls by task name.", labels=["task"])
        seconds = CounterMetricFamily("nblb_task_seconds", "Run time by task name.", labels=["task"])
        for name, row in rows.items():
            tasks.add_metric([name], row["totaltasks"])
            failed.add_metric([name], row["failed"])
            seconds.add_metric([name], row["totalcalctimes"])
        return tasks, failed, seconds


def exposition(answers: Mapping[str, Any]) -> bytes:
    """Return the answers in Prometheus's text format; without answers, only that the core is away."""
    registry = CollectorRegistry()
    registry.register(Answers(answers))
    return bytes(generate_latest(registry))


def _bounded(rows: Iterable[Mapping[str, Any]], label: str, by: str) -> dict[str, dict[str, float]]:
    """Return the rows by label; of more than MOST_LABELS the smaller ones, by this figure, are summed."""
    ordered = sorted(rows, key=lambda row: -float(row.get(by) or 0.0))
    found: dict[str, dict[str, float]] = {}
    for number, row in enumerate(ordered):
        name = _clean(row.get(label)) if number < MOST_LABELS else OTHER
        sums = found.setdefault(name, {})
        for key, value in row.items():
            if key != label and isinstance(value, int | float):
                sums[key] = sums.get(key, 0.0) + float(value)
    return found


def _clean(label: object) -> str:
    """Return a label that UTF-8 can express."""
    return str(label).encode("utf-8", "replace").decode()
