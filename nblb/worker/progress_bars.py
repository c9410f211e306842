"""Reports tqdm and rich.progress bars inside a task as its progress, without a change to the code.

Their classes are patched when they are first imported in a worker (patches.py). A patched bar draws nothing, so the
task's output contains no escape codes. The outermost of nested bars gives the percentage, the others the note.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from nblb import task_api
from nblb.worker.control_page import marks

_markup = re.compile(r"\[/?[a-z# ][^\]]*\]")

Part: TypeAlias = "tuple[float, float | None, str]"  # done, total, label


class ProgressBars:
    """The open bars, the outermost first."""

    def __init__(self) -> None:
        self.open: dict[int, list[Part]] = {}

    def clear(self) -> None:
        """Remove the bars of a task that has ended without closing them."""
        if self.open:
            self.open = {}

    def moved(self, bar: Any, parts: Sequence[Part]) -> None:
        """Report a bar that is new or has advanced; a bar of rich may have several parts."""
        self.open[id(bar)] = list(parts)
        marks.raised = True
        self._say()

    def closed(self, bar: Any) -> None:
        self.open.pop(id(bar), None)

    def _say(self) -> None:
        parts = [part for each in self.open.values() for part in each]
        if not parts:
            return
        done, total, _ = parts[0]
        words = [_words(part, part is parts[0] and len(parts) == 1) for part in parts]
        task_api.progress(100.0 * done / total if total else 0.0, " · ".join(filter(None, words)))


def _words(part: Part, alone: bool) -> str:
    done, total, label = part
    if alone and total:
        return label  # the percentage is reported separately
    count = f"{_number(done)}/{_number(total)}" if total else _number(done)
    return f"{label} {count}".strip()


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.1f}"


bars = ProgressBars()


class _BarSink:
    """The file that a patched bar writes to."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Do nothing."""

    def isatty(self) -> bool:
        return True  # else a bar with disable=None would count nothing


# ── tqdm ────────────────────────────────────────────────────────────────────────────────────────────────────


def patch_tqdm(module: Any) -> None:
    """Patch tqdm.std, whose class all the other bars derive from."""
    tqdm = module.tqdm
    tqdm.monitor_interval = 0  # no monitoring thread
    begin, close = tqdm.__init__, tqdm.close

    def beginning(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > 4:  # iterable, desc, total, leave, file
            args = (*args[:4], _BarSink(), *args[5:])
        else:
            kwargs["file"] = _BarSink()
        kwargs.pop("gui", None)
        begin(self, *args, **kwargs)

    def refresh(self: Any, *_: Any, **__: Any) -> bool:
        if not self.disable:
            bars.moved(self, [_part_of_tqdm(self)])
        return True

    def display(self: Any, *_: Any, **__: Any) -> bool:
        return not self.disable

    def closing(self: Any) -> None:
        if not getattr(self, "disable", True):
            try:
                bars.moved(self, [_part_of_tqdm(self)])
            except task_api.StoppedAndKept:  # raised again at the next step, which is not in a cleanup
                pass
        close(self)
        bars.closed(self)

    tqdm.__init__, tqdm.refresh, tqdm.display, tqdm.close = beginning, refresh, display, closing


def _part_of_tqdm(bar: Any) -> Part:
    label = (bar.desc or "").rstrip(": ")
    return bar.n, bar.total, f"{label} {bar.postfix}".strip() if bar.postfix else label


def patch_tqdm_notebook(module: Any) -> None:
    """Patch tqdm.notebook, since a worker has no widgets."""
    from tqdm import std

    module.tqdm = module.tqdm_notebook = std.tqdm
    module.trange = module.tnrange = std.trange


# ── rich ────────────────────────────────────────────────────────────────────────────────────────────────────


def patch_rich(module: Any) -> None:
    """Patch rich.progress, so that its bars are reported and not drawn."""
    progress = module.Progress
    begin = progress.__init__

    def beginning(self: Any, *columns: Any, **kwargs: Any) -> None:
        # Without a refresh thread, `track` counts in the task's own thread.
        kwargs.update(auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        begin(self, *columns, **kwargs)

    def start(self: Any) -> None:
        if not self.disable:
            _tell_rich(self)

    def stop(self: Any) -> None:
        bars.closed(self)

    progress.__init__, progress.start, progress.stop, progress.refresh = beginning, start, stop, _tell_rich
    for name in ("advance", "update", "add_task"):
        setattr(progress, name, _telling(getattr(progress, name)))


def _telling(method: Any) -> Any:
    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        _tell_rich(self)
        return result

    return told


def _tell_rich(progress: Any) -> None:
    if progress.disable:
        return
    shown = [task for task in progress.tasks if task.visible]
    working = [task for task in shown if not task.finished] or shown[:1]
    parts = [(task.completed, task.total, _markup.sub("", task.description)) for task in working]
    if parts:
        bars.moved(progress, parts)
