"""Ids of tasks and jobs: made by the client, so that asking twice is harmless."""

from __future__ import annotations

import itertools
import os


class Ids:
    """Ids that no other process makes: 16 hex digits of this process, 16 that count."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._count = itertools.count(1)

    def __call__(self) -> str:
        return f"{self._prefix}{next(self._count):016x}"


new_id = Ids()
os.register_at_fork(after_in_child=new_id.renew)
