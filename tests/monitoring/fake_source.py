"""A fake cluster for the Monitor's tests, with answers in the shapes of broker/queries.py."""

from __future__ import annotations

import threading
import time
from typing import Any

from nblb.errors import LoadBalancerUnreachable

NASTY = "<img src=x onerror=\"document.title='HACKED'\">"


class FakeSource:
    """Stands for client.Cluster; `away` makes it a core that does not answer."""

    def __init__(self, workers: int = 8) -> None:
        self.away = False
        self.asked: list[str] = []
        self.orders: list[Any] = []
        self.named: list[tuple[str, str]] = []  # in whose name, with which role, orders came
        self.lock = threading.Lock()
        self.abouts: dict[str, dict[str, Any]] = {}  # the latest details of each topic
        self.step = 0
        self.worker_count = workers
        self.hub_state = "up"
        self.users: list[dict[str, Any]] = [
            {"user": "anna", "queued": 3000, "running": 4, "done": 6000, "failed": 12, "used_s": 7200.0},
            {"user": "bert", "queued": 412, "running": 2, "done": 190, "failed": 0, "used_s": 61.0},
        ]

    def connect(self) -> FakeSource:
        if self.away:
            raise LoadBalancerUnreachable("No core answers at ipc:///run/nblb/lab-5799/clients; start one.")
        return self

    def ask(self, topic: str, about: dict[str, Any] | None = None) -> Any:
        with self.lock:
            self.asked.append(topic)
        if self.away:
            raise LoadBalancerUnreachable("No core answers at ipc:///run/nblb/lab-5799/clients; start one.")
        with self.lock:
            self.abouts[topic] = about or {}
        return getattr(self, f"answer_{topic}")()

    def order(self, message: Any) -> Any:
        if self.away:
            raise LoadBalancerUnreachable("No core answers at ipc:///run/nblb/lab-5799/clients; start one.")
        self.orders.append(message)
        return 3

    def order_for(self, message: Any, name: str, role: str) -> Any:
        self.named.append((name, role))
        return self.order(message)

    def answer_status(self) -> dict[str, Any]:
        self.step += 1
        return {
            "name": "lab-5799",
            "core": "c0",
            "epoch": 3,
            "pid": 77,
            "host": "lab1",
            "started_at": time.time() - 4321,
            "uptime_s": 4321.0,
            "durability": "process",
            "addresses": {},
            "security": "on",
            "state_dir": "/s",
            "version": "0.1.0",
            "counts": {"DONE": 6190 + self.step, "FAILED": 12, "QUEUED": 3412, "LOST": 0},
            "queued": 3412 - 20 * self.step,
            "running": 6,
            "hubs": 2,
            "workers": self.worker_count,
            "busy": 6,
            "users": ["anna", "bert"],
        }

    def answer_workers(self) -> list[dict[str, Any]]:
        rows = []
        for i in range(self.worker_count):
            busy = i % 4 != 3
            rows.append(
                {
                    "worker": f"worker_c0b28c{i:02x}",
                    "hub": f"h{i % 2 + 1}",
                    "host": f"lab{i % 2 + 1}",
                    "pid": 1000 + i,
                    "group": 0,
                    "minP": 0.0,
                    "maxP": 1000.0 if i % 2 else 99.0,
                    "state": "busy" if busy else "idle",
                    "task": f"t{i:04d}" if busy else "",
                    "first": 0,
                    "items": 1,
                    "task_name": (NASTY if i == 1 else "simulate") if busy else "",
                    "user": "anna" if busy else "",
                    "progress": (self.step * 7 + i * 13) % 100,
                    "note": NASTY if i == 2 else "half way",
                    "since_s": 4.2 + i,
                    "done": 12 + i,
                    "ip": "127.0.0.1",
                    "lb_port": 8300,
                    "hc_port": 8301,
                    "cpu": 12.0 if i % 2 else 83.0,
                    "own_cpu": 97.0 if busy else 0.0,
                    "memory_mb": 100 + i,
                }
            )
        return rows

    def answer_users(self) -> list[dict[str, Any]]:
        return self.users

    def answer_queue(self) -> dict[str, Any]:
        return {
            "by_user": {"anna": 3000, "bert": 412},
            "by_priority": {"0": 3400, "100": 10, "2000": 2},
            "by_name": {"simulate": {"number": 3400, "waitingtime": 512.5}, NASTY: {"number": 12, "waitingtime": 0.02}},
            "oldest_s": 512.5,
        }

    def answer_stats(self) -> dict[str, Any]:
        def stat(total: int, mean: float) -> dict[str, Any]:
            return {
                "totaltasks": total,
                "totalcalctimes": total * mean,
                "mincalctimes": mean / 3,
                "meancalctimes": mean,
                "maxcalctimes": mean * 9,
                "minwaittimes": 0.001,
                "meanwaittimes": 31.0,
                "maxwaittimes": 512.5,
                "failed": 12,
                "peak_mb": 512.0 if mean < 2 else 0.0,
            }

        return {"simulate": stat(6000, 1.2), NASTY: stat(190, 11.0)}

    def answer_jobs(self) -> list[dict[str, Any]]:
        now = time.time()
        return [
            {
                "job": "j1",
                "name": "sweep",
                "task_name": "simulate",
                "user": "anna",
                "items": 10000,
                "created_at": now - 60,
                "counts": {"DONE": 6190, "FAILED": 12, "RUNNING": 6, "QUEUED": 3792},
                "fingerprint": "",
                "origin": "",
                "state": "running",
            },
            {
                "job": "j2",
                "name": NASTY,
                "task_name": "fit",
                "user": "bert",
                "items": 100,
                "created_at": now - 600,
                "counts": {"DONE": 100},
                "fingerprint": "",
                "origin": "",
                "state": "",
            },
        ]

    def answer_page(self) -> dict[str, Any]:
        about = self.abouts.get("page", {})
        offset, limit = int(about.get("offset") or 0), int(about.get("limit") or 50)
        total = 7 if about.get("search") else 100_000
        rows = [self.call(n) for n in range(offset, min(offset + limit, total))]
        return {"rows": rows, "total": total, "searched": 1.0, "counts": {}}

    def call(self, n: int) -> dict[str, Any]:
        bad = n % 5 == 4
        return {
            "task": f"t{n:06d}",
            "id": f"t{n:06d}",
            "first": 0,
            "items": 1,
            "of": 1,
            "name": NASTY if n == 2 else "simulate",
            "job": "j1",
            "job_name": "sweep",
            "index": n,
            "state": "FAILED" if bad else "DONE" if n % 2 else "RUNNING",
            "progress": 40.0,
            "note": "half way",
            "user": "anna",
            "origin": "",
            "priority": 5.0,
            "attempt": 1,
            "worker": "worker_c0b28c00",
            "host": "lab1",
            "submitted_at": time.time() - 60,
            "started_s": 0.0 if bad or n % 2 else 12.0,
            "duration_s": 3.0,
            "ended_at": 0.0,
            "kept": False,
            "failure": {"kind": "ValueError", "message": f"bad {NASTY}", "where": "cell In[3] line 2"} if bad else None,
        }

    def answer_task(self) -> dict[str, Any] | None:
        task = str(self.abouts.get("task", {}).get("task") or "")
        if not task.startswith("t"):
            return None
        row = self.call(int(task[1:]))
        bad = row["state"] == "FAILED"
        return {
            **row,
            "story": [
                (time.time() - 60, "SubmitTask", "", "QUEUED"),
                (time.time() - 50, "TaskStarted", "ASSIGNED", "RUNNING"),
            ],
            "why": "does not wait",
            "stdout": f"hello {NASTY}\n",
            "stderr": "a warning\n",
            "displays": [],
            "arguments": "simulate(3, n=1000)",
            "bytes": 1234,
            "retries": 1,
            "timeout_s": 60.0,
            "depends": [],
            "tries": 0,
            "crashes": 0,
            "traceback": "Traceback (most recent call last): …" if bad else "",
            "error": f"ValueError: bad {NASTY}" if bad else "",
            "result_bytes": 0,
        }

    def answer_job(self) -> dict[str, Any] | None:
        wanted = self.abouts.get("job", {}).get("job")
        return next((job for job in self.answer_jobs() if job["job"] == wanted), None)

    def answer_strip(self) -> str:
        return "d" * 60 + "f" + "r" * 2 + "q" * 37

    def answer_failures(self) -> list[dict[str, Any]]:
        group = {"kind": "ValueError", "message": "x must not be …", "where": "cell In[3] line 2", "calls": 12}
        return [{**group, "task": "t000004", "first": 0, "call": "simulate(3)", "items": [3, 10], "line": ""}]

    def answer_turns(self) -> list[dict[str, Any]]:
        turn = {"minP": 0.0, "maxP": 1000.0, "workers": 8, "place": 1, "user": "bert", "occupied": 2, "recent_s": 61.0}
        task = {"waiting": 412, "task": "t000001", "first": 0, "name": "simulate", "priority": 0.0}
        return [{**turn, **task, "why": "occupies 2 workers, fewer than anna"}]

    def answer_hubs(self) -> list[dict[str, Any]]:
        group = {"group": 0, "workers": 4, "alive": 4, "minP": 0.0, "maxP": 1000.0}
        hub = {"hub": "h1", "name": "lab1-77", "host": "lab1", "pid": 77, "state": self.hub_state, "age_s": 0.2}
        more = {"load": 0.8, "memory": 0.4, "disk": 0.3, "python": [3, 11], "nblb": "0.1.0", "workers": 4, "busy": 3}
        return [{**hub, **more, "groups": [group], "engine": "processes"}]

    def answer_percentiles(self) -> dict[str, Any]:
        return {"simulate": {"p50calctimes": 1.1, "p95calctimes": 3.0, "p95waittimes": 60.0}}

    def answer_history(self) -> dict[str, Any]:
        now = time.time()
        bins = [
            {
                "at": now - 600 + 10 * n, "queued": 50.0 - n, "running": 6.0, "workers": 8.0, "busy": 6.0, "load": 0.5,
                "done": 60, "failed": 1, "done_per_s": 6.0, "failed_per_s": 0.1, "commit_ms": 0.3,
                "used_s": {"anna": 40.0, "bert": 20.0},
            }
            for n in (*range(20), *range(40, 60))
        ]  # fmt: skip
        return {
            "now": now,
            "seconds": float(self.abouts["history"].get("seconds") or 3600),
            "width_s": 10.0,
            "bins": bins,
        }

    def answer_timeline(self) -> dict[str, Any]:
        now = time.time()
        rows = [
            {
                "begin": now - 200 + 20 * n, "end": now - 185 + 20 * n, "seconds": 15.0, "host": "lab1",
                "worker": f"worker_c0b28c0{n % 4}", "name": "simulate" if n % 3 else "fit", "user": "anna",
                "state": "FAILED" if n == 4 else "DONE", "task": f"t{n:06d}", "first": 0, "items": 1, "attempt": 1,
                "job": "",
            }
            for n in range(9)
        ]  # fmt: skip
        return {"now": now, "seconds": float(self.abouts["timeline"].get("seconds") or 600), "rows": rows, "more": 0}
