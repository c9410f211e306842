"""Arguments by name: of items, in the table, and as grids."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.jobs.arguments import grid


@task_decorator.task
def simulate(seed: int, n: int = 1000, rate: float = 0.5) -> dict[str, float]:
    if seed < 0:
        raise ValueError(seed)
    return {"mean": seed / 2}


@task_decorator.task
def pair(first: Any, second: Any) -> Any:
    return first


def test_the_table_of_a_sweep_says_what_it_is_a_table_of(cluster: Cluster) -> None:
    job = simulate.map([1, -2, 3], [10, 20, 30], rate=0.25)
    job.wait(60)
    frame = job.dataframe()
    assert list(frame["seed"]) == [1, -2, 3]
    assert list(frame["n"]) == [10, 20, 30]
    assert list(frame["rate"]) == [0.25] * 3
    assert list(frame["mean"].dropna()) == [0.5, 1.5]
    assert list(frame.columns[:4]) == ["state", "seed", "n", "rate"]
    assert {"kept", "code", "duration_s", "attempt", "host", "ended_at", "error", "where"} <= {*frame.columns}


def test_arguments_are_those_that_were_sent(cluster: Cluster) -> None:
    values = [[1], [2]]
    job = pair.map(values, [7, 8])
    values[0].append(99)
    job.wait(60)
    assert list(job.dataframe()["first"]) == [[1], [2]]
    assert job._arguments is not None
    assert job._arguments.text(1) == "first=[2], second=8"


def test_a_long_or_hostile_argument_is_one_short_line(cluster: Cluster) -> None:
    job = pair.map(["x\ny" * 1000], [list(range(10_000))])
    job.wait(60)
    assert job._arguments is not None
    text = job._arguments.text(0)
    assert "\n" not in text
    assert len(text) < 310


def test_arguments_that_are_large_are_not_kept_twice(cluster: Cluster) -> None:
    job = pair.map([b"x" * 9_000_000], [1])
    job.wait(60)
    assert job._arguments is None
    assert "first" not in job.dataframe().columns


def test_starmap_takes_tuples(cluster: Cluster) -> None:
    job = pair.starmap([(1, 2), (3, 4)])
    assert job.results(60) == job.result() == [1, 3]
    assert len(pair.starmap([])) == 0
    with pytest.raises(TypeError, match="call 1 has 1 arguments and call 0 has 2"):
        pair.starmap([(1, 2), (3,)])


def test_product_runs_all_combinations_in_order(cluster: Cluster) -> None:
    job = simulate.product(range(2), rate=[0.1, 0.2])
    job.wait(60)
    frame = job.dataframe()
    assert [tuple(row) for row in frame[["seed", "n", "rate"]].to_numpy()] == [
        (0, 1000, 0.1), (0, 1000, 0.2), (1, 1000, 0.1), (1, 1000, 0.2),
    ]  # fmt: skip
    assert len(simulate.product([], rate=[1])) == 0


@pytest.mark.parametrize(
    ("choices", "named", "said"),
    [
        ((), {"speed": [1]}, "'speed' is not a parameter that product\\(\\) can vary; there are seed, n, rate"),
        (([1],), {"seed": [2]}, "'seed' has choices by position and by name"),
        ((), {"rate": [1]}, "'seed' has no default and no choices"),
    ],
)
def test_a_grid_that_does_not_fit_the_function_is_refused(choices: Any, named: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        grid(inspect.signature(simulate.function), choices, named)
