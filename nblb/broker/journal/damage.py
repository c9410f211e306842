"""What a journal has lost, as found when it is opened and read: sentences for people, and what follows for tasks."""

from __future__ import annotations

import time
from pathlib import Path

MOST_TOLD = 20  # sentences about single rows and files; the others are counted


class Damage:
    """The damage of one journal; `sentences` says what is lost, and since when.

    `lost_orders`: entries that a core has promised are missing, among them perhaps the beginning of a task.
    """

    def __init__(self) -> None:
        self.lost_orders = False
        self._sentences: list[str] = []
        self._single: list[str] = []
        self._untold = 0

    def __bool__(self) -> bool:
        return bool(self._sentences or self._single)

    @property
    def sentences(self) -> list[str]:
        """Return a sentence for each thing that is lost, the largest first."""
        more = [f"… and {self._untold:,} more rows and files"] if self._untold else []
        return [*self._sentences, *self._single, *more]

    def entries(self, sentence: str) -> None:
        """Add that committed entries are missing."""
        self._sentences.append(sentence)
        self.lost_orders = True

    def single(self, sentence: str) -> None:
        """Add that a single row or file is damaged."""
        if len(self._single) < MOST_TOLD:
            self._single.append(sentence)
        else:
            self._untold += 1


def when(at: float) -> str:
    """Return a time of the wall clock as people read it; "an unknown time" for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "an unknown time"


def put_aside(path: Path) -> Path | None:
    """Rename a file or folder of a damaged journal, so that it stays as evidence; return its new path."""
    for number in range(1000):
        aside = path.with_name(f"{path.name}.damaged{f'-{number}' if number else ''}")
        if not aside.exists():
            try:
                return path.rename(aside)
            except OSError:
                return None
    return None
