"""LB_DURABILITY "none": the journal's place, with nothing kept."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

from nblb.broker.state_folder import StateFolder
from nblb.records import AnyEntry


class MemoryJournal:
    """Nothing survives the process; a second core on the same folder is refused all the same."""

    durability = "none"
    epoch = 1
    commits, commit_s = 0, 0.0

    def __init__(self, folder: Path, name: str = "") -> None:
        self.core = uuid.uuid4().hex  # another core each time: what the one before promised is void
        self.warning = ""
        self.unkept: list[tuple[AnyEntry, Exception]] = []
        self._folder = StateFolder(folder, name)

    def append(self, entry: AnyEntry) -> None:
        pass

    def commit(self) -> None:
        pass

    def said(self) -> None:
        pass

    def withdraw(self, tasks: set[str]) -> None:
        pass

    def pending_tasks(self) -> list[str]:
        return []

    def rest(self) -> None:
        pass

    def replay(self) -> Iterator[AnyEntry]:
        return iter(())

    def close(self) -> None:
        self._folder.close()
