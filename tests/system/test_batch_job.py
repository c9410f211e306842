"""What a hub knows of its batch job, with a stand-in for squeue."""

from __future__ import annotations

from pathlib import Path

import pytest

from nblb.host import cores
from nblb.system import batch_job

TIMES = {
    "0:45": 45.0,
    "9:58": 598.0,
    "1:00:00": 3600.0,
    "2-03:04:05": 183845.0,
    "UNLIMITED": 0.0,
    "INVALID": 0.0,
    "": 0.0,
}


@pytest.mark.parametrize(("text", "seconds"), TIMES.items())
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert batch_job.seconds(text) == seconds


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "squeue"
    script.write_text("#!/bin/sh\ncase \"$*\" in *'--jobs 17'*) echo 9:50 ;; *) exit 1 ;; esac\n")
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return script


def test_a_hub_ends_before_its_job(squeue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert batch_job.name() == "slurm 17"
    assert batch_job.lives_s() == 590.0 - batch_job.RESERVE_S
    squeue.write_text("#!/bin/sh\necho 0:20\n")
    assert batch_job.lives_s() == 16.0  # a short job keeps most of its time
    squeue.write_text("#!/bin/sh\necho UNLIMITED\n")
    assert batch_job.lives_s() == 0.0


def test_without_a_job_there_is_no_end(squeue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert (batch_job.name(), batch_job.lives_s()) == ("", 0.0)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", "")
    assert batch_job.lives_s() == 0.0


def test_a_job_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = cores()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert cores() == 1
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "100000")
    assert cores() == usable
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "many")
    assert cores() == usable
