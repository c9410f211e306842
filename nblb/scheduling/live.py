"""Output, displays and knobs of tasks, for current and later watchers.

They are in memory only, and bounded in total: the oldest go first. No decision of the scheduler depends on them.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from nblb.protocol.messages import KnobOffered, TaskEmitted, TaskPrinted

OUTPUT_TAIL = 64 * 1024  # per stream of an item
DISPLAY_BYTES = 2 * 1024 * 1024  # per item
MOST_DISPLAYS = 50
MOST_KNOBS = 64
MAX_BYTES = 128 * 1024 * 1024  # in total


class ItemLive:
    """The output, displays and knobs of one item."""

    __slots__ = ("displays", "emitted", "knobs", "nbytes", "output")

    def __init__(self) -> None:
        self.output: dict[str, str] = {}
        self.displays: deque[str] = deque()
        self.emitted: TaskEmitted | None = None
        self.knobs: dict[str, KnobOffered] = {}
        self.nbytes = 0

    def _size(self) -> int:
        emitted = self.emitted
        held = 0 if emitted is None else len(emitted.bundle) + (emitted.payload.nbytes if emitted.payload else 0)
        return 256 * (1 + len(self.knobs)) + held + sum(map(len, self.output.values())) + sum(map(len, self.displays))

    def print(self, message: TaskPrinted) -> None:
        if message.stream != "display":
            self.output[message.stream] = (self.output.get(message.stream, "") + message.text)[-OUTPUT_TAIL:]
            return
        self.displays.append(message.text)
        total = sum(map(len, self.displays))
        while len(self.displays) > 1 and (len(self.displays) > MOST_DISPLAYS or total > DISPLAY_BYTES):
            total -= len(self.displays.popleft())

    def grown(self) -> int:
        """Return the growth in bytes since the last call."""
        before, self.nbytes = self.nbytes, self._size()
        return self.nbytes - before


class Live:
    """The live data of all items, by submission and item."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._items: OrderedDict[tuple[str, int], ItemLive] = OrderedDict()
        self._of_record: dict[str, dict[int, None]] = {}
        self.nbytes = 0

    def get(self, task: str, item: int) -> ItemLive | None:
        return self._items.get((task, item))

    def of_record(self, task: str) -> list[tuple[int, ItemLive]]:
        """Return the live data of a submission's items."""
        return [(item, self._items[task, item]) for item in self._of_record.get(task, ())]

    def printed(self, message: TaskPrinted) -> None:
        item = message.first + message.offset
        live = self._make(message.task, item)
        live.print(message)
        self._grew(live)

    def emitted(self, message: TaskEmitted) -> None:
        live = self._make(message.task, message.first + message.offset)
        live.emitted = message
        self._grew(live)

    def offered(self, message: KnobOffered) -> bool:
        """Keep the knob; return False if there is no room for one more."""
        live = self._make(message.task, message.first + message.offset)
        if message.name not in live.knobs and len(live.knobs) >= MOST_KNOBS:
            return False
        live.knobs[message.name] = message
        self._grew(live)
        return True

    def drop(self, task: str) -> None:
        """Drop the live data of a submission."""
        for item in self._of_record.pop(task, ()):
            self.nbytes -= self._items.pop((task, item)).nbytes

    def _make(self, task: str, item: int) -> ItemLive:
        live = self._items.get((task, item))
        if live is None:
            live = self._items[task, item] = ItemLive()
            self._of_record.setdefault(task, {})[item] = None
        else:
            self._items.move_to_end((task, item))
        return live

    def _grew(self, live: ItemLive) -> None:
        self.nbytes += live.grown()
        while self.nbytes > self._max_bytes and len(self._items) > 1:
            (task, item), oldest = self._items.popitem(last=False)
            self.nbytes -= oldest.nbytes
            items = self._of_record[task]
            del items[item]
            if not items:
                del self._of_record[task]
