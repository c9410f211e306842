"""`%lb_logs`: what core and hubs have written, and what a task has printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from nblb.errors import UnknownTask
from nblb.launch import logs
from nblb.notebook import finding

AGAIN_S = 0.25
ENDED = ("DONE", "FAILED", "CANCELLED", "LOST")


def read(shell: Any, cluster: Any, what: str, lines: int) -> Iterator[str]:
    """The end of it: of a process's log, of a task's output, or of every log."""
    if not what:
        for role, path in logs.files(cluster.parameters).items():
            yield f"── {role} ({path})\n{logs.last_lines(path, lines)}\n"
    elif is_process(cluster, what):
        yield f"{logs.last_lines(logs.file_of(cluster.parameters, what), lines)}\n"
    else:
        yield "\n".join(_output(_about(shell, cluster, what)).splitlines()[-lines:]) + "\n"


def follow(shell: Any, cluster: Any, what: str, pause: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """What is written from now on, until the task has ended or the reader has enough."""
    if is_process(cluster, what or "core"):
        for text in logs.new_text(logs.file_of(cluster.parameters, what or "core")):
            yield text
            pause(AGAIN_S)
    else:
        yield from _follow_task(shell, cluster, what, pause)


def _follow_task(shell: Any, cluster: Any, what: str, pause: Callable[[float], None]) -> Iterator[str]:
    place = finding.place(shell, cluster, what)
    before, ended = _output(_about(shell, cluster, what)), False
    while not ended:
        about = cluster.connection.ask("task", place)
        ended = about is None or about["state"] in ENDED
        now = _output(about or {})
        # The core keeps the output's end: what was seen may have lost its begin meanwhile.
        overlap = before[-200:]
        yield now[now.rfind(overlap) + len(overlap) :] if overlap in now else now
        before = now or before
        if not ended:
            pause(AGAIN_S)


def is_process(cluster: Any, what: str) -> bool:
    """Whether this names a process rather than a task."""
    return what.partition("-")[0] in logs.ORDER or what in logs.files(cluster.parameters)


def _about(shell: Any, cluster: Any, what: str) -> dict[str, Any]:
    about: dict[str, Any] | None = cluster.connection.ask("task", finding.place(shell, cluster, what))
    if about is None:
        raise UnknownTask(f"the core does not know {what} any more")
    return about


def _output(about: dict[str, Any]) -> str:
    return "".join(str(about.get(stream) or "") for stream in ("stdout", "stderr"))
