"""Ids of tasks and jobs; the client makes them, so that sending a message twice is harmless."""

from __future__ import annotations

import hashlib
import itertools
import os


class Ids:
    """A generator of ids that are unique to this process: 16 random hex digits, then 16 that count up."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._count = itertools.count(1)

    def __call__(self) -> str:
        return f"{self._prefix}{next(self._count):016x}"


def record_id(job: str, first: int, items: int) -> str:
    """The id of the submission with these items of a job; it is the same in every kernel, so each item runs once."""
    return hashlib.blake2b(f"{job} {first} {items}".encode(), digest_size=16).hexdigest()


new_id = Ids()
os.register_at_fork(after_in_child=new_id.renew)
