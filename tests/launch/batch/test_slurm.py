"""Slurm's commands, with stand-ins that answer as Slurm 22.05 does."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from nblb.launch.batch import slurm
from nblb.launch.batch.launcher import JobReport
from nblb.launch.batch.slurm import BatchSystemError, Slurm

TODAY = datetime(2026, 12, 1, 9, 0).astimezone()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-ins, the only one on the PATH beside the system's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def script(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o700)


def test_the_states_of_jobs(commands: Path, tmp_path: Path) -> None:
    answer = (
        "1|PENDING|Priority|2099-12-01T14:10:00\n2|RUNNING|None|2026-12-01T08:00:00\n3|COMPLETED|None|N/A\n"
        "4|PENDING|Resources|N/A\n5|COMPLETING|None|N/A\n6|PENDING|None|N/A\n7|TIMEOUT|TimeLimit|N/A"
    )
    script(commands, "squeue", f"printf '{answer}'")
    assert Slurm("", tmp_path).reports(list("1234567")) == {
        "1": JobReport(False, "Priority", "Dec 1 14:10"),
        "2": JobReport(True),
        "4": JobReport(False, "Resources"),
        "5": JobReport(True),
        "6": JobReport(False),
    }


def test_a_job_that_slurm_has_dropped_has_ended(commands: Path, tmp_path: Path) -> None:
    script(commands, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert Slurm("", tmp_path).reports(["1"]) == {}
    script(commands, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(BatchSystemError, match=r"squeue fails: .*Unable to contact slurm controller"):
        Slurm("", tmp_path).reports(["1"])


def test_a_dry_run_says_what_slurm_says(commands: Path, tmp_path: Path) -> None:
    script(commands, "sbatch", 'echo "sbatch: Job 5 to start at 2026-12-01T10:00:00" >&2')
    assert Slurm("--time=10", tmp_path).check() == "Job 5 to start at 2026-12-01T10:00:00"
    script(
        commands,
        "sbatch",
        "echo 'allocation failure: Invalid account or account/partition combination specified' >&2; exit 1",
    )
    with pytest.raises(
        BatchSystemError, match=r"refuses such a job \(sbatch --test-only --account=no\): .*Invalid acc"
    ):
        Slurm("--account=no", tmp_path).check()


def test_without_slurm_the_error_says_where_to_go(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(commands))
    with pytest.raises(BatchSystemError, match=r"'sbatch' is not on this computer's PATH; .* login node"):
        Slurm("", tmp_path).check()


@pytest.mark.parametrize(("options", "sentence"), [("'--time", "cannot be split"), ("job.sh", "must begin with '-'")])
def test_wrong_options(options: str, sentence: str) -> None:
    with pytest.raises(BatchSystemError, match=sentence):
        slurm.split_options(options)


def test_times_of_day() -> None:
    assert slurm.clock_time("2026-12-01T14:10:00", TODAY) == "14:10"
    assert slurm.clock_time("2026-12-03T14:10:00", TODAY) == "Dec 3 14:10"
    assert slurm.clock_time("N/A", TODAY) == ""
