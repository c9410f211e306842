"""Distribution of the suite over processes by `./test`: whole files, long ones first, and one browser at a time.

Most of the suite waits more than it computes, so there is a process more than there are cores. What drives a browser
computes: it has one of the processes to itself from the start, and the others help it only in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

BROWSER = "tests/browser/"
LONG = ("tests/test_notebooks.py", "tests/chaos/", "tests/end_to_end/", "tests/broker/test_killed_core.py")


def rank(scope: str) -> int:
    """Files that are begun early; the others stand in the order of their number of tests."""
    return 0 if scope.startswith((BROWSER, *LONG)) else 1


def choose(scopes: Sequence[str], is_browser_busy: bool) -> str:
    """What a process does next: what drives a browser if no other process is at that, or if nothing else is left."""
    by_rank = sorted(scopes, key=rank)
    fitting = [scope for scope in by_rank if scope.startswith(BROWSER) != is_browser_busy]
    return (fitting or by_rank)[0]


class LongFirst(LoadFileScheduling):  # type: ignore[misc]
    """pytest-xdist's `--dist loadfile` with that choice."""

    def _assign_work_unit(self, node: Any) -> None:
        busy = any(
            scope.startswith(BROWSER) and not all(unit.values())
            for other, work in self.assigned_work.items()
            if other is not node
            for scope, unit in work.items()
        )
        self.workqueue.move_to_end(choose(list(self.workqueue), busy), last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongFirst | None:
    return LongFirst(config, log) if config.getoption("dist") == "loadfile" else None
