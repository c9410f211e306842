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
        self.lock = threading.Lock()
        self.step = 0
        self.worker_count = workers
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
        return getattr(self, f"answer_{topic}")()

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
