"""Ids of tasks and jobs: made by the client, so that asking twice is harmless."""

from __future__ import annotations

import hashlib
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


def record_id(job: str, first: int, items: int) -> str:
    """The id of the record that holds these items of a job, in whichever kernel submits it: each runs once."""
    return hashlib.blake2b(f"{job} {first} {items}".encode(), digest_size=16).hexdigest()


new_id = Ids()
os.register_at_fork(after_in_child=new_id.renew)
