"""The results of a run: all figures of all cases and systems, as written to a file."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class Outcome:
    """The outcome of one run: figures, or a word in their place."""

    figures: dict[str, float] = field(default_factory=dict)
    word: str = ""
    took_s: float = 0.0


class Summary(NamedTuple):
    """The summary of one figure: the median of its runs, the least and the most."""

    median: float
    least: float
    most: float
    runs: int


@dataclass
class Results:
    """The results of a run of the suite. `figures` and `words` are keyed by "case/system"."""

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
            if key not in self.figures:  # a case that succeeded once has figures
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
        """The reason why there is no figure."""
        return self.words.get(f"{case}/{system}", "not run")

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(key.split("/")[0] for key in (*self.figures, *self.words)))
