"""What was measured: all figures of all runs, as they are written to a file."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class Outcome:
    """Of one run: figures, or the word that stands in their place."""

    figures: dict[str, float] = field(default_factory=dict)
    word: str = ""
    took_s: float = 0.0


class Summary(NamedTuple):
    """Of one figure: the middle one of its runs, and how far apart they are."""

    median: float
    least: float
    most: float
    runs: int


@dataclass
class Results:
    """A run of the suite. `figures` and `words` are by "case/system"."""

    when: str
    machine: dict[str, Any]
    versions: dict[str, str]
    size: str = "full"
    figures: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    took_s: dict[str, list[float]] = field(default_factory=dict)
    load_at_end: list[float] = field(default_factory=list)
    cut_short: int = 0  # runs for which there was no time left

    def note(self, case: str, system: str, outcome: Outcome) -> None:
        key = f"{case}/{system}"
        self.took_s.setdefault(key, []).append(round(outcome.took_s, 2))
        if outcome.word:
            if key not in self.figures:  # what went well once is a figure
                self.words[key] = outcome.word
        else:
            self.figures.setdefault(key, []).append(outcome.figures)

    def summary(self, case: str, system: str, figure: str) -> Summary | None:
        values = [run[figure] for run in self.figures.get(f"{case}/{system}", []) if figure in run]
        return Summary(statistics.median(values), min(values), max(values), len(values)) if values else None

    def median(self, case: str, system: str, figure: str) -> float | None:
        found = self.summary(case, system, figure)
        return None if found is None else found.median

    def word(self, case: str, system: str) -> str:
        """Why there is no figure."""
        return self.words.get(f"{case}/{system}", "not run")

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(key.split("/")[0] for key in (*self.figures, *self.words)))
