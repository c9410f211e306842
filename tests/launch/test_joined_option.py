"""Options of sbatch as the value of --slurm."""

from __future__ import annotations

from nblb.launch.joined_option import joined


def test_a_value_that_looks_like_an_option() -> None:
    assert joined(["hub", "--slurm", "--time=1 -p main", "--hubs", "2"], "--slurm") == [
        "hub",
        "--slurm=--time=1 -p main",
        "--hubs",
        "2",
    ]


def test_what_is_joined_already_or_has_no_value_stays() -> None:
    assert joined(["hub", "--slurm=--time=1"], "--slurm") == ["hub", "--slurm=--time=1"]
    assert joined(["hub", "--slurm"], "--slurm") == ["hub", "--slurm"]
    assert joined([], "--slurm") == []
