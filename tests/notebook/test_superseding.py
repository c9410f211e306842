"""A job name used again with other code or other items, in a real IPython on a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

DEFINE = """import nblb as lb
@lb.task
def work(x):
    import pathlib, time
    with open({file!r}, "a") as out: out.write(f"{{x}}\\n")
    while x >= 100 and not pathlib.Path({file!r} + ".go").exists(): time.sleep(0.02)
    return x {change}
job = work.map({items}, job="sweep")"""


def test_what_did_not_change_is_computed_once_and_the_rest_is_a_choice(
    live_shell: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, space = tmp_path / "noted", live_shell.user_ns

    def run(items: str, change: str = "+ 1") -> Any:
        assert live_shell.run_cell(DEFINE.format(file=str(file), items=items, change=change)).success
        return space["job"]

    first = run("[1, 2, 3, 100, 101, 102]")
    wait_until(lambda: first.counts().get("DONE") == 3 and first.counts().get("RUNNING") == 2, 30, "three results")
    longer = run("[1, 2, 3, 4, 5]")
    assert "takes over the name; the earlier job (other arguments) goes on, 3 of 6 tasks left; 3 results" in caplog.text
    assert "job.earlier.cancel() ends them" in caplog.text
    longer.earlier.cancel()
    assert first.wait(20)
    assert first.counts() == {"DONE": 3, "CANCELLED": 3}
    assert longer.results(60) == [2, 3, 4, 5, 6]
    other = run("[1, 2, 3, 4, 5]", "+ 2")
    assert other.results(60) == [3, 4, 5, 6, 7]
    assert other.earlier.changed == "code"
    noted = [int(line) for line in file.read_text().split()]
    assert sorted(x for x in noted if x < 100) == sorted([1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    live_shell.run_cell("found = lb.attach('sweep')")
    assert space["found"] is other
