"""The referee, which checks from the outside what a play has left: logs of clients and tasks, and the public API."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nblb as lb
from nblb.parameters import Parameters
from tests.chaos.client import note_end

AT_ONCE = 16  # jobs that are asked for


@dataclass
class Verdict:
    """What was found; `problems` is empty when every promise was kept."""

    jobs: int = 0
    acked: int = 0
    seen: int = 0
    lost_by_design: int = 0  # at_most_once tasks whose process died in them
    ran_again: int = 0
    problems: list[str] = field(default_factory=list)


class Referee:
    """Gathers the clients' words, asks the cluster for all jobs, compares."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.verdict = Verdict()
        self.jobs: dict[str, int] = {}
        self.acked: dict[str, set[int]] = {}
        self.tokens: dict[tuple[str, int], set[str]] = {}  # results that any user has seen of an item
        self.wrong: dict[tuple[str, int], list[Any]] = {}
        self.forgotten: set[str] = set()  # jobs that a client was about to forget, all of whose ends it had noted

    def judge(self, cluster: lb.Cluster) -> Verdict:
        for log in sorted(self.folder.glob("client*.log")):
            for line in log.read_text().splitlines(keepends=True):
                if line.endswith("\n"):  # a kill may leave half a line
                    self.note(*json.loads(line))
        kept = {row.name for row in cluster.jobs()}
        with ThreadPoolExecutor(
            AT_ONCE
        ) as pool:  # a job whose client died while it submitted is waited for for a second
            list(pool.map(lambda name: self.ask_again(cluster, name), [name for name in self.jobs if name in kept]))
        for name in self.jobs:
            if name not in kept and self.acked.get(name) and name not in self.forgotten:
                self.problem(f"job {name} was acknowledged and is unknown")
        self.compare()
        return self.verdict

    def problem(self, text: str) -> None:
        self.verdict.problems.append(text)

    def note(self, word: str, *rest: Any) -> None:
        match word, *rest:
            case "job", name, items:
                self.jobs[name] = items
            case "acked", name, first, items:
                self.acked.setdefault(name, set()).update(range(first, first + items))
            case "seen", name, item, token:
                self.tokens.setdefault((name, item), set()).add(token)
            case "wrong", name, item, *error:
                self.wrong[name, item] = error
            case "forgets", name:
                self.forgotten.add(name)
            case ("finished",):
                pass
            case _:
                self.problem(f"{word}: {rest}")

    def ask_again(self, cluster: lb.Cluster, name: str) -> None:
        """What the cluster says of the job now must be what its submitter saw."""
        job = cluster.attach(name)
        for item in range(self.jobs[name]):
            note_end(self.note, job, item)

    def compare(self) -> None:
        verdict = self.verdict
        verdict.jobs = len(self.jobs)
        for name, items in self.acked.items():
            verdict.acked += len(items)
            for item in items:
                if (name, item) not in self.tokens and (name, item) not in self.wrong:
                    self.problem(f"{name}[{item}] was acknowledged and has no end")
        for (name, item), tokens in self.tokens.items():
            verdict.seen += 1
            if len(tokens) > 1:
                self.problem(f"{name}[{item}] was accepted {len(tokens)} times")
            if (name, item) in self.wrong:
                self.problem(f"{name}[{item}] has a result and an error: {self.wrong[name, item]}")
            self.check_runs(name, item, tokens)
        for (name, item), error in self.wrong.items():
            if item not in self.acked.get(name, ()):
                continue  # its client died before it was told, or before it brought it in
            if error[0] == "TaskLost" and self.runs(name, item)[1]:
                verdict.lost_by_design += 1
            else:
                self.problem(f"{name}[{item}] ended as {error}")

    def runs(self, name: str, item: int) -> tuple[list[str], bool]:
        """The lines that the item's runs have left, and whether it may run once only."""
        folder = self.folder / "runs"
        once = (folder / f"{name}-once").exists()
        path = folder / (f"{name}-once" if once else name) / str(item)
        return (path.read_text().splitlines() if path.exists() else []), once

    def check_runs(self, name: str, item: int, tokens: set[str]) -> None:
        lines, once = self.runs(name, item)
        begun = [line.split()[0] for line in lines if line.endswith("begins")]
        self.verdict.ran_again += len(begun) > 1
        if once and len(begun) > 1:
            self.problem(f"{name}[{item}] may run once and began {len(begun)} times")
        for token in tokens:
            if f"{token} ends" not in lines:
                self.problem(f"{name}[{item}] has the result of a run that never ended")


def check_journal(parameters: Parameters) -> str:
    """What SQLite says of the journal: "ok"."""
    with sqlite3.connect(parameters.state_dir / "journal.sqlite") as journal:
        said: str = journal.execute("PRAGMA integrity_check").fetchone()[0]
    journal.close()
    return said
