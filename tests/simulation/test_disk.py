"""The simulated disk: which data survives which fault."""

from __future__ import annotations

import pytest

from nblb.errors import JournalError, JournalFull
from nblb.protocol.journal_entries import AttemptKept, EndKept, TaskKept
from nblb.protocol.messages import SubmitTask, TaskState
from nblb.simulation.disk import Disk
from nblb.simulation.simulator import Simulator

TASK = TaskKept(SubmitTask(task="a", name="f"), 1.0)
GIVEN = AttemptKept("a", 0, 1, 1, "h")
ENDED = EndKept("a", 0, 1, 1, TaskState.DONE, 2.0)


def test_what_is_committed_survives_a_crash_and_nothing_else_does() -> None:
    for seed in range(20):
        disk = Disk(Simulator(seed))
        disk.append(TASK)
        disk.commit()
        disk.append(GIVEN)
        disk.append(ENDED)
        disk.crash()
        assert disk.replay() == [TASK]
        disk.append(GIVEN)
        disk.commit()
        assert disk.replay() == [TASK, GIVEN]


def test_a_full_disk_takes_no_new_task_and_leaves_the_buffer_as_it_was() -> None:
    disk = Disk(Simulator(0))
    disk.full = True
    disk.append(TASK)
    with pytest.raises(JournalFull):
        disk.commit()
    assert disk.replay() == []
    disk.full = False
    disk.commit()
    assert disk.replay() == [TASK]


def test_after_a_failed_fsync_only_a_restart_knows() -> None:
    found = set()
    for seed in range(20):
        disk = Disk(Simulator(seed))
        disk.fsync_fails = True
        disk.append(TASK)
        with pytest.raises(JournalError, match="fsync"):
            disk.commit()
        disk.crash()
        found.add(len(disk.replay()))
    assert found == {0, 1}


def test_each_committed_batch_is_told() -> None:
    disk, told = Disk(Simulator(0)), []
    disk.watch = told.append
    disk.append(TASK)
    disk.append(GIVEN)
    disk.commit()
    disk.commit()
    assert told == [[TASK, GIVEN]]
