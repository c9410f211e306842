"""Names of jobs, tasks, users and folders that are not valid text: only that call fails, not the connection."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from nblb.parameters import load

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

ODD = ["caf\udce9", "nul\x00", "\x1b[2J\x1b]0;title\x07", "two\nlines", "x" * 100_000, "\u202eabc"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_found_again_by_themselves(cluster: Cluster, name: str) -> None:
    assert lb.task(abs).map([-1, -2], job=name).results(60) == [1, 2]
    assert lb.attach(name).results(60) == [1, 2]
    shown = lb.attach(name).name
    assert shown.isprintable()
    assert len(shown) < 300
    assert lb.task(abs).options(user=name, name=name).submit(-3).result(60) == 3
    with pytest.raises(lb.UnknownTask):
        lb.attach(f"no such {name}")
    assert lb.task(abs).submit(-7).result(60) == 7  # the connection lives
    assert all(row["name"].isprintable() for row in cluster.jobs())


def test_a_callback_that_exits_does_not_end_the_connection(cluster: Cluster) -> None:
    def exits(_: Any) -> None:
        raise SystemExit

    future = lb.task(abs).submit(-1)
    future.add_done_callback(exits)
    job = lb.task(abs).map(range(3))
    for each in job:
        assert each >= 0
    assert lb.task(abs).submit(-7).result(60) == 7


def test_a_result_that_cannot_be_loaded_fails_alone(cluster: Cluster) -> None:
    def makes(raises: str) -> Any:
        import builtins

        class Odd:
            def __setstate__(self, state: Any) -> None:
                raise getattr(builtins, raises)(state)

            def __getstate__(self) -> Any:
                return {"a": 1}

        return Odd()

    for raises in ("SystemExit", "ValueError", "GeneratorExit"):
        with pytest.raises(lb.TaskFailed, match=f"cannot be loaded here: {raises}"):
            lb.task(makes).submit(raises).result(60)
    assert lb.task(abs).submit(-7).result(60) == 7


def test_folders_with_names_that_are_no_text(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \x1b[2J"))
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(lb.ParametersError, match=r"LB_STATE_DIR is .*udce9 .*x1b\[2J/state', which has bytes"):
        load(settings | {"LB_STATE_DIR": str(odd / "state")})
    parameters = load(settings)
    try:
        with launch.start(parameters, monitor=False):  # the caller's folder may be called anything
            assert lb.task(os.getcwd).submit().result(60) == str(odd)
            assert lb.task(len).submit(bytes(2_000_000)).result(60) == 2_000_000
    finally:
        launch.stop(parameters)
