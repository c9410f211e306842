"""Results that clients did not take in time: what is still to be sent to whom, some of it a turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from nblb.protocol.messages import FetchTask, Message

RESULTS_A_TURN = 64  # for one client, so that others do not wait


class Backpressure:
    """By address, the record, first item and items of each result; the results themselves stay where they lie.

    Each by itself: a record that is told as a whole, again and again, never gets beyond what its client takes at once.
    """

    def __init__(self) -> None:
        self._of: dict[str, dict[tuple[str, int, int], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, address: str, message: Message) -> bool:
        """Whether it is the first of this client."""
        first_of_all = address not in self._of
        key = getattr(message, "task", ""), getattr(message, "first", 0), getattr(message, "items", 0)
        self._of.setdefault(address, {})[key] = None
        return first_of_all

    def drop(self, address: str) -> None:
        """This client is gone; when it is back it asks for what it misses."""
        self._of.pop(address, None)

    def take(self, is_slow: Callable[[str], bool]) -> Iterator[tuple[str, FetchTask]]:
        """What to tell in this turn, as the wishes of clients that have read all they had."""
        for address, results in list(self._of.items()):
            if is_slow(address):
                continue
            for key in [*islice(results, RESULTS_A_TURN)]:
                del results[key]
                task, first, items = key
                yield address, FetchTask(task=task, first=first, items=items)
            if not results:
                del self._of[address]
