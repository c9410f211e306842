"""The scheduler alone, without sockets: what accepting, dispatching and ending a task costs, and its memory.

    python -m tests.benchmarks.scheduler [--queued 1000,10000,100000] [--users 100] [--bands 10] [--hubs 10]

Every hub has a group of ten workers in each band. Prints microseconds of processor time per task and KiB per queued
task (tiny payloads, sender's objects not counted twice).
"""

from __future__ import annotations

import argparse
import gc
import resource
import time

from nblb.commands import Command, Send
from nblb.framing import Payload
from nblb.messages import Group, Hello, HubHello, PutBlob, RunTask, SubmitTask, TaskFinished, WorkerStarted
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy

WORKERS = 10
MEASURED = 20_000  # tasks that are dispatched and ended


def build(users: int, bands: int, hubs: int) -> Scheduler:
    scheduler = Scheduler(Policy(max_queued=0))
    groups = tuple(Group(workers=WORKERS, minP=band * 10, maxP=band * 10 + 9) for band in range(bands))
    for user in range(users):
        scheduler.handle(f"client:{user}", Hello(client=str(user), user=f"user{user}"), 0.0)
    for hub in range(hubs):
        address = f"hub:{hub}"
        hello = HubHello(
            hub=str(hub), name=f"hub{hub}", host="here", pid=hub, python=(3, 11), cloudpickle="3", groups=groups
        )
        scheduler.handle(address, hello, 0.0)
        for number in range(bands * WORKERS):
            started = WorkerStarted(worker=f"worker{hub}-{number}", group=number // WORKERS)
            scheduler.handle(address, started, 0.0)
    scheduler.handle("client:0", PutBlob(hash="f", payload=Payload((b"f",))), 0.0)
    return scheduler


def orders(commands: list[Command]) -> list[tuple[str, RunTask]]:
    return [(c.to, c.message) for c in commands if isinstance(c, Send) and isinstance(c.message, RunTask)]


def measure(queued: int, users: int, bands: int, hubs: int) -> tuple[float, float, float]:
    """(us to accept, us to dispatch and end, KiB) per task."""
    scheduler = build(users, bands, hubs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accept_s = 0.0
    for start in range(0, queued, 1000):  # in the portions in which they would arrive
        specs = [
            SubmitTask(
                task=f"{n:032x}", name="f", function="f", payload=Payload((b"x" * 57,)), priority=n % bands * 10.0
            )
            for n in range(start, min(start + 1000, queued))
        ]
        begun = time.process_time()
        for n, spec in enumerate(specs):
            scheduler.handle(f"client:{n % users}", spec, 0.0)
        accept_s += time.process_time() - begun
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / queued
    done, now, run_s = 0, 0.0, 0.0
    target = min(queued, MEASURED)
    begun = time.process_time()
    given = orders(scheduler.tick(now))
    run_s += time.process_time() - begun
    while done < target:
        ends = [
            (hub, TaskFinished(task=r.task, attempt=r.attempt, payload=Payload((b"y",)), duration_s=1e-4, worker="w"))
            for hub, r in given
        ]
        now += 0.001
        begun = time.process_time()
        for hub, end in ends:
            scheduler.handle(hub, end, now)
        given = orders(scheduler.tick(now))
        run_s += time.process_time() - begun
        done += len(ends)
    return accept_s / queued * 1e6, run_s / done * 1e6, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--queued", default="1000,10000,100000")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--bands", type=int, default=10)
    parser.add_argument("--hubs", type=int, default=10)
    args = parser.parse_args()
    gc.set_threshold(50_000, 20, 100)  # as the core's process does
    print("| queued | accept us | dispatch and end us | decisions/s | KiB per task |\n|---|---|---|---|---|")
    for queued in map(int, args.queued.split(",")):
        accept, run, memory = measure(queued, args.users, args.bands, args.hubs)
        print(f"| {queued:,} | {accept:.1f} | {run:.1f} | {1e6 / run:,.0f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
