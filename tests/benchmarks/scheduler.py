"""A benchmark of the scheduler alone, without sockets, files or processes: the cost of a task while many wait.

    python -m tests.benchmarks.scheduler [--queued 1000,10000,100000,1000000] [--users 100] [--bands 10] [--hubs 10]

Every hub has a group of ten workers in each band; every user has tasks in every band; tasks are single calls of one
function that runs for a second, so that each is placed on a free worker. The number of waiting tasks is kept constant:
each placed task is replaced. Each line is measured in a process of its own, in CPU seconds with garbage collection:

- accept: SubmitTask arrives and is queued (its record for the journal, and its acknowledgement, are made).
- place: a *decision*, made by `tick`: whose turn it is, which task, which hub and group; the attempt's record for
  the journal and the order to the hub are made.
- end: TaskFinished arrives; the end's record, the word to its client and the hub's acknowledgement are made.
- whole life: the three together.
- KiB: memory per waiting task, its message (57 bytes of arguments) included.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import time
from pathlib import Path

from nblb.protocol.commands import Command, Send
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, Hello, HubHello, PutBlob, RunTask, SubmitTask, TaskFinished, WorkerStarted
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy

WORKERS = 10  # workers of a group
MEASURED = 20_000  # tasks that are measured from submission to end
PORTION = 1000  # tasks that arrive at once

Seconds = dict[str, float]


class Bench:
    """A core with hubs, users and their tasks."""

    def __init__(self, users: int, bands: int, hubs: int) -> None:
        self.scheduler = scheduler = Scheduler(Policy(job_ttl_s=1e6))
        self.users, self.bands = users, bands
        self.now = 0.0
        self.number = 0
        groups = tuple(Group(workers=WORKERS, minP=band * 10, maxP=band * 10 + 9) for band in range(bands))
        for user in range(users):
            scheduler.handle(f"client:{user}", Hello(client=str(user), user=f"user{user}"), 0.0)
        for hub in range(hubs):
            hello = HubHello(
                hub=str(hub), name=f"hub{hub}", host="here", pid=hub, python=(3, 11), cloudpickle="3", groups=groups
            )
            scheduler.handle(f"hub:{hub}", hello, 0.0)
            for number in range(bands * WORKERS):
                started = WorkerStarted(worker=f"worker{hub}-{number}", group=number // WORKERS)
                scheduler.handle(f"hub:{hub}", started, 0.0)
        scheduler.handle("client:0", PutBlob(hash="f", payload=Payload((b"f",))), 0.0)

    def submit(self, count: int) -> float:
        """Submit this many tasks, and return the seconds that the scheduler needed."""
        seconds = 0.0
        for start in range(self.number, self.number + count, PORTION):
            specs = [self._spec(n) for n in range(start, min(start + PORTION, self.number + count))]
            handle, now, users, begun = self.scheduler.handle, self.now, self.users, time.process_time()
            for n, spec in enumerate(specs):
                handle(f"client:{(start + n) % users}", spec, now)
            seconds += time.process_time() - begun
        self.number += count
        return seconds

    def _spec(self, n: int) -> SubmitTask:
        payload = Payload((b"x" * 50 + b"%07d" % n,))
        priority = n // self.users % self.bands * 10.0
        return SubmitTask(task=f"{n:032x}", name="f", function="f", payload=payload, priority=priority)

    def place(self) -> tuple[list[Command], float]:
        begun = time.process_time()
        commands = self.scheduler.tick(self.now)
        return commands, time.process_time() - begun

    def end(self, commands: list[Command]) -> tuple[int, float]:
        """Finish all placed tasks, and return their number and the seconds."""
        runs = [(c.to, c.message) for c in commands if isinstance(c, Send) and isinstance(c.message, RunTask)]
        ends = [
            (
                hub,
                TaskFinished(task=run.task, attempt=run.attempt, payload=Payload((b"y",)), duration_s=1.0, worker="w"),
            )
            for hub, run in runs
        ]
        self.now += 1.0
        handle, now, begun = self.scheduler.handle, self.now, time.process_time()
        for hub, message in ends:
            handle(hub, message, now)
        return len(ends), time.process_time() - begun


def measure(queued: int, users: int, bands: int, hubs: int) -> tuple[Seconds, float]:
    """(seconds per task by what was done, KiB per waiting task)."""
    gc.set_threshold(50_000, 20, 100)  # as the core's process does
    bench = Bench(users, bands, hubs)
    warm = bench.submit(1)
    bench.end(bench.place()[0])
    before = _resident_kib()
    spent = dict.fromkeys(("accept", "place", "end"), 0.0)
    spent["accept"] = warm = bench.submit(queued)
    kib = (_resident_kib() - before) / queued
    spent["accept"] = warm / queued * MEASURED if queued >= MEASURED else 0.0
    done, replaced = 0, 0
    while done < MEASURED:
        commands, seconds = bench.place()
        spent["place"] += seconds
        count, seconds = bench.end(commands)
        spent["end"] += seconds
        seconds = bench.submit(count)
        if queued < MEASURED:
            spent["accept"] += seconds
        done += count
        replaced += count
    return {what: seconds / done for what, seconds in spent.items()}, kib


def _resident_kib() -> float:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024
    except OSError:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--queued", default="1000,10000,100000,1000000")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--bands", type=int, default=10)
    parser.add_argument("--hubs", type=int, default=10)
    args = parser.parse_args()
    print(f"{args.users} users, {args.bands} bands, {args.hubs * args.bands * WORKERS:,} workers on {args.hubs} hubs")
    print("| queued | accept us | place us | end us | decisions/s | whole lives/s | KiB per queued task |")
    print("|---|---|---|---|---|---|---|")
    for queued in map(int, args.queued.split(",")):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            spent, kib = pool.apply(measure, (queued, args.users, args.bands, args.hubs))
        us = " | ".join(f"{spent[what] * 1e6:.1f}" for what in ("accept", "place", "end"))
        print(f"| {queued:,} | {us} | {1 / spent['place']:,.0f} | {1 / sum(spent.values()):,.0f} | {kib:.2f} |")


if __name__ == "__main__":
    main()
