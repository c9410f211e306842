"""The time of a core's restart: `python -m tests.benchmarks.replay [tasks]`, 100,000 tasks by default.

Half of the tasks have ended, a quarter was running when the core died, and the rest waits; every hundredth has a
payload in a file. The measured time covers all that a start does: opening and reading the journal, restoring the state.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import monotonic, perf_counter, process_time

from nblb.broker.journal.journal import Journal
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import AttemptKept, BlobKept, EndKept, TaskKept
from nblb.protocol.messages import SubmitTask, TaskState
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy

SMALL, LARGE = 600, 100_000  # bytes
TURN = 1000  # tasks in one commit


def write(folder: Path, tasks: int) -> None:
    """Write the journal that a busy core leaves behind when it is killed."""
    journal = Journal(folder)
    journal.append(BlobKept("f", Payload((b"code",)), "work"))
    for start in range(0, tasks, TURN):
        for n in range(start, min(start + TURN, tasks)):
            size = LARGE if n % 100 == 0 else SMALL
            payload = Payload((b"%09d" % n + bytes(size),))
            spec = SubmitTask(task=f"{n:032x}", name="work", function="f", payload=payload, user=f"user{n % 7}")
            journal.append(TaskKept(spec, 1.0))
            if n % 4 != 3:
                journal.append(AttemptKept(spec.task, 0, 1, 1, "hub"))
            if n % 4 < 2:
                journal.append(EndKept(spec.task, 0, 1, 1, TaskState.DONE, 2.0, payload=payload))
        journal.commit()
    journal._db.close()  # as a kill would: the WAL is not checkpointed
    journal._folder.close()


def replay(folder: Path) -> tuple[float, float, Scheduler]:
    """The elapsed seconds, the CPU seconds, and the rebuilt scheduler."""
    begun, begun_cpu = perf_counter(), process_time()
    journal = Journal(folder)
    scheduler = Scheduler(Policy(core=journal.core, epoch=journal.epoch))
    scheduler.restore(journal.replay(), monotonic())
    took, took_cpu = perf_counter() - begun, process_time() - begun_cpu
    journal.close()
    return took, took_cpu, scheduler


def main(tasks: int) -> None:
    with tempfile.TemporaryDirectory(prefix="nblb-replay-") as name:
        folder = Path(name) / "state"
        write(folder, tasks)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        took, took_cpu, scheduler = replay(folder)
        state = scheduler.state
        assert len(state.records) == tasks
        print(
            f"replay of {tasks:,} tasks ({size / 2**20:,.0f} MiB; {len(state.orphans):,} were running): "
            f"{took:.2f} s ({took_cpu:.2f} s of one processor), {tasks / took:,.0f} tasks/s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
