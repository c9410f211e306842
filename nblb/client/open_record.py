"""A record that the session waits for: which of its items have ended."""

from __future__ import annotations

from itertools import groupby

from nblb.messages import TaskEnded


class OpenRecord:
    """A record whose ends are not all known."""

    __slots__ = ("_ended", "blobs", "items", "job", "left")

    def __init__(self, items: int, job: str, blobs: tuple[str, ...]) -> None:
        self.items = self.left = items
        self.job = job
        self.blobs = blobs  # those that the core needs while the record is open
        self._ended = bytearray(items) if items > 1 else None  # 1 where an item has ended; one item is open or gone

    def fresh(self, message: TaskEnded) -> tuple[tuple[int, int], ...]:
        """The runs (first, items) of a slice whose end was not known before; it is from now on."""
        runs = self._fresh(message)
        self.left -= sum(items for _, items in runs)
        return runs

    def _fresh(self, message: TaskEnded) -> tuple[tuple[int, int], ...]:
        ended = self._ended
        if ended is None:
            return ((0, 1),) if message.first == 0 and self.left and not message.holes else ()
        first, last = max(0, message.first), min(message.first + message.items, len(ended))
        if last <= first:
            return ()
        if not message.holes and ended.find(1, first, last) < 0:
            ended[first:last] = b"\1" * (last - first)
            return ((first, last - first),)
        holes = set(message.holes)
        new = [n for n in range(first, last) if not ended[n] and n - message.first not in holes]
        for n in new:
            ended[n] = 1
        runs = (list(run) for _, run in groupby(enumerate(new), key=lambda pair: pair[1] - pair[0]))
        return tuple((run[0][1], len(run)) for run in runs)
