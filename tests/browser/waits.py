"""Cells that wait for tasks; the tasks continue when the test allows it, and otherwise run for ten minutes."""

from __future__ import annotations

from pathlib import Path

SETUP = """%load_ext nblb
%lb_start parameters.json --no-monitor
import nblb as lb, os, time
@lb.task
def step(x, go):
    print("item", x, "is here")
    while not os.path.exists(go):
        time.sleep(0.01)
    if x >= 4:
        time.sleep(600)
    return x"""

WAYS = {  # name of the job -> how its cell waits for it
    "result": "job[10].result()",
    "loop": "for result in job: pass",
    "ended": "for future in job.as_completed(): future.result()",
    "await": "await job",
    "async": "async for result in job: pass",
}


def cell(name: str, go: Path) -> str:
    """A cell that shows a job of 20 tasks and waits for it; four of them end when there is a file `go`."""
    return f"""job = step.map(range(20), [{str(go)!r}] * 20, job={name!r})
display(job)
try:
    {WAYS[name]}
except lb.TaskCancelled:
    print("{name} is over")"""
