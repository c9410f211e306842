"""The report of a benchmark, as plain data and as text for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from nblb.bench.meters import Usage

TITLES = {
    "startup": "start of a cluster of its own, to a result from each of 2 workers",
    "latency": "one task, there and back",
    "submit": "single submits",
    "map_default": "map, chunked by itself",
    "map_chunked": "map, with chunksize=",
    "array_both_ways": "a large array, both ways",
    "constant_argument": "one large array in 20 tasks, as argument",
    "constant_closure": "one large array in 20 tasks, in the closure",
    "constant_put": "one large array in 20 tasks, lb.put",
    "closure": "tasks with a closure of 1 MiB",
    "imbalance": "uneven tasks, against workers that never wait",
}


@dataclass
class Measured:
    """The measurement of one case."""

    case: str
    figures: dict[str, float] = field(default_factory=dict)
    tasks: int = 0
    usage: Usage | None = None
    word: str = ""  # why there are no figures
    limit: str = ""  # what uses the time


@dataclass
class BenchReport:
    """The report of a run of `nblb bench`."""

    cluster: dict[str, Any]
    machine: dict[str, Any]
    best: dict[str, float]  # the machine's figures without nblb
    cases: list[Measured] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def figure(self, case: str, name: str) -> float | None:
        """Returns one figure, None if it was not measured."""
        return next((each.figures.get(name) for each in self.cases if each.case == case), None)

    def text(self) -> str:
        cluster, machine = self.cluster, self.machine
        size = f"{machine['cores']} cores ({machine['processor']}), {machine['memory_GiB']} GiB"
        kept = f"durability {cluster['durability']}"
        lines = [
            f"{cluster['name']}: {_number(cluster['workers'], 'worker')} in {_number(cluster['hubs'], 'hub')}, {kept}",
            f"here: {size}, load {machine['load'][0]:g} when it began",
            "without nblb this machine does: " + ", ".join(_best(self.best)),
            "",
            *_columns((TITLES[each.case], _figures(each), each.limit) for each in self.cases),
        ]
        return "\n".join([*lines, *(["", *(f"- {each}" for each in self.advice)] if self.advice else [])])


def _best(best: dict[str, float]) -> list[str]:
    words = {
        "round_trip_us": "a bare ZeroMQ round trip in {:,.0f} us",
        "copy_MiB_per_s": "copies in memory at {:,.0f} MiB/s",
        "write_MiB_per_s": "files in the state folder at {:,.0f} MiB/s",
        "commit_us": "a commit there in {:,.0f} us",
    }
    return [words[name].format(value) for name, value in best.items() if name in words]


def _figures(measured: Measured) -> str:
    if measured.word:
        return measured.word
    return ", ".join(say(name, value) for name, value in measured.figures.items() if name in SAID)


SAID = {
    "p50_us": "{:,.0f} us (half of them)",
    "p99_us": "{:,.0f} us (99 of 100)",
    "tasks_per_s": "{:,.0f} tasks/s",
    "submit_us": "{:.1f} us per submit",
    "items_per_s": "{:,.0f} items/s",
    "chunk": "{:,.0f} a chunk",
    "MiB_per_s": "{:,.0f} MiB/s",
    "seconds": "{:.2f} s",
    "of_once": "{:.1f} times one task with it",
    "of_ideal": "{:.2f} times their time",
}


def say(name: str, value: float) -> str:
    """Formats a figure with its unit."""
    return SAID[name].format(value)


def _columns(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Formats two columns, with the long sentence on the limit below them."""
    listed = list(rows)
    width = max((len(title) for title, _, _ in listed), default=0)
    lines = []
    for title, figures, limit in listed:
        lines.append(f"{title.ljust(width)}  {figures}")
        if limit:
            lines.append(f"{' ' * width}  {limit}")
    return lines


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
