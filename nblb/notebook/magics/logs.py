"""`%lb_logs`: logs of core and hubs, and output of tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nblb.client.futures.output_access import folder as output_folder
from nblb.client.futures.output_access import kept_output
from nblb.errors import UnknownTask
from nblb.launch import logs
from nblb.notebook.magics import task_lookup
from nblb.quantities import size
from nblb.shared_files.output_log import Following, decoded

AGAIN_S = 0.25
SHOWN_CHARS = 2_000_000
MOST_LINES = 100_000
ENDED = ("DONE", "FAILED", "CANCELLED", "LOST")


def read(shell: Any, cluster: Any, what: str, lines: int | None) -> Iterator[str]:
    """Yields the last lines of a process's log, of a task's output (`lines` None: all of it), or of every log."""
    if not what:
        for role, path in logs.files(cluster.parameters).items():
            yield f"── {role} ({path})\n{logs.last_lines(path, lines or MOST_LINES)}\n"
    elif is_process(cluster, what):
        yield f"{logs.last_lines(logs.file_of(cluster.parameters, what), lines or MOST_LINES)}\n"
    else:
        task = _Task(shell, cluster, what)
        if lines is None:
            yield from bounded(task.whole())
        else:
            yield _with_end(task.tail(lines))


def bounded(texts: Iterable[str]) -> Iterator[str]:
    """Limits the text to what a cell can show: a page cannot display 100 MB."""
    left, more = SHOWN_CHARS, 0
    for text in texts:
        yield text[: max(0, left)]
        more += max(0, len(text) - max(0, left))
        left -= len(text)
    if more:
        yield f"\n… {size(more)} more: its future has all of it in stdout and stderr, read_output() yields pieces …\n"


def _with_end(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def follow(shell: Any, cluster: Any, what: str, pause: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """Yields new text until the task has ended or the user interrupts."""
    if is_process(cluster, what or "core"):
        for text in logs.new_text(logs.file_of(cluster.parameters, what or "core")):
            yield text
            pause(AGAIN_S)
    else:
        yield from _Task(shell, cluster, what).follow(pause)


class _Task:
    """A task's output: from its files, or what the core has of it."""

    def __init__(self, shell: Any, cluster: Any, what: str) -> None:
        self._cluster = cluster
        self._place = task_lookup.place(shell, cluster, what)
        self._about = self._ask()
        if self._about is None:
            raise UnknownTask(f"the core does not know {what} any more")
        task, item = self._place["task"], self._place["first"]
        self._kept = kept_output(cluster.connection, task, item)
        self._is_here = bool(output_folder(cluster.connection))  # else new output comes from the core only
        self._following = Following(output_folder(cluster.connection), task, item)

    def _ask(self) -> dict[str, Any] | None:
        about: dict[str, Any] | None = self._cluster.connection.ask("task", self._place)
        return about

    def whole(self) -> Iterator[str]:
        return self._kept.text() if self._kept else iter([_with_end(_output(self._about))])

    def tail(self, lines: int) -> str:
        return self._kept.tail(lines) if self._kept else "\n".join(_output(self._about).splitlines()[-lines:])

    def follow(self, pause: Callable[[float], None]) -> Iterator[str]:
        for _ in self._following.new():
            pass  # skip what was there before
        before, ended, kept = _output(self._about), False, self._is_here and bool(self._kept)
        while not ended:
            about = self._ask()
            ended = about is None or about["state"] in ENDED
            new, kept = "".join(decoded(self._following.new())), kept or (self._is_here and bool(self._kept))
            if kept:
                yield new
            else:
                now = _output(about)
                # The core keeps only the end of the output: its beginning may have been dropped since.
                overlap = before[-200:]
                yield now[now.rfind(overlap) + len(overlap) :] if overlap in now else now
                before = now or before
            if not ended:
                pause(AGAIN_S)
            elif about is not None and about["state"] in ("FAILED", "LOST"):
                failure = about.get("failure") or {}
                said = ": ".join(
                    filter(None, (failure.get("kind"), str(failure.get("message") or "").partition("\n")[0]))
                )
                yield f"── {about['name']} has ended: {str(about['state']).lower()}{f', {said}' if said else ''}\n"


def is_process(cluster: Any, what: str) -> bool:
    """True if this names a process rather than a task."""
    return what.partition("-")[0] in logs.ORDER or what in logs.files(cluster.parameters)


def _output(about: dict[str, Any] | None) -> str:
    return "".join(str((about or {}).get(stream) or "") for stream in ("stdout", "stderr"))
