from __future__ import annotations

import re
from typing import Any

import pytest

FAIL = """import nblb as lb
@lb.task
def invert(x):
    print("inverting", x)
    return 1 / x
f = invert.submit(0)
job = invert.map([1, 2, 0, 4], job="inversions")
f.exception(20), job.wait(20)"""


def test_debug_makes_the_very_call_here_and_logs_shows_what_it_printed(
    live_shell: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(live_shell, "debugger", lambda force: opened.append(live_shell.user_ns["f"]))
    live_shell.run_cell(FAIL)
    capsys.readouterr()
    failed_id = live_shell.user_ns["f"].task_id
    for name in ("f", "inversions[2]", failed_id[-10:]):
        live_shell.run_line_magic("lb_debug", name)
        said = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
        assert "inverting 0" in said
        assert "return 1 / x" in said
        assert "debug_magic.py" not in said
    assert len(opened) == 3
    assert live_shell.run_line_magic("lb_debug", "inversions[3]") == 0.25
    saved = live_shell.run_line_magic("lb_debug", f"--saved {failed_id}")
    assert saved.locals["x"] == "0"
    capsys.readouterr()
    live_shell.run_line_magic("lb_logs", "f -n 3  # its output")
    assert capsys.readouterr().out == "inverting 0\n"
    live_shell.run_line_magic("lb_logs", "core -n 2")
    assert capsys.readouterr().out.count("\n") == 2
    live_shell.run_line_magic("lb_logs", "-f f")
    assert capsys.readouterr().out.startswith("inverting 0")
