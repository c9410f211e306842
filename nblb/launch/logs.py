"""The logs of a cluster's processes on this machine, by role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nblb.errors import NblbError

if TYPE_CHECKING:
    from nblb.parameters import Parameters

LINE_BYTES = 400  # more than most lines have
ORDER = ("core", "hub", "health", "monitor")  # others, such as hub-2, follow their kind


def files(parameters: Parameters) -> dict[str, Path]:
    """The log of each process, by its name: core, hub, hub-2, health, monitor."""
    found = {path.stem: path for path in (parameters.state_dir / "logs").glob("*.log")}
    order = {role: number for number, role in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda entry: (order.get(entry[0].partition("-")[0], len(ORDER)), entry[0])))


def file_of(parameters: Parameters, role: str) -> Path:
    """The log of one process; raises an error that lists the existing logs if there is none."""
    found = files(parameters)
    if role not in found:
        there = f"there are {', '.join(found)}" if found else "none has written one here"
        raise NblbError(f"no process of '{parameters.name}' has a log called {role!r}; {there}")
    return found[role]


def last_lines(path: Path, lines: int) -> str:
    """The last lines of a log."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (lines + 1) * LINE_BYTES))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:]) if lines else ""


def new_text(path: Path) -> Iterator[str]:
    """Yields new text of a log, "" while there is none; after a rotation it goes on with the new file."""
    at = path.stat().st_size
    while True:
        size = path.stat().st_size if path.exists() else 0
        at = at if at <= size else 0
        text = b""
        if size > at:
            with path.open("rb") as file:
                file.seek(at)
                text = file.read(size - at)
            at += len(text)
        yield text.decode("utf-8", "replace")
