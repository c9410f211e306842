"""Whatever the network does, each item settles exactly once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.client.session.session import Session
from nblb.protocol.commands import Command, Send, Settle
from nblb.protocol.messages import (
    BlobMissing,
    FetchTask,
    Hello,
    Message,
    PutBlob,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    Welcome,
)
from tests.client.session.test_session import BLOB, HELLO, end, submit


class Network:
    """A core that keeps everything it accepts, behind a line that loses, repeats and mixes up what it carries."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.session = Session(HELLO)
        self.accepted: dict[str, SubmitTask] = {}
        self.blobs: set[str] = set()
        self.ran: dict[str, list[TaskEnded]] = {}
        self.settled: dict[tuple[str, int], int] = {}
        self.to_core: list[Message] = []
        self.to_client: list[Message] = []
        self.epoch = 0
        self.now = 0.0
        self.up = False

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Send) and self.up:
                self.to_core.append(command.message)
            if isinstance(command, Settle):
                for first, items in command.fresh:
                    for item in range(first, first + items):
                        key = (command.ended.task, item)
                        self.settled[key] = self.settled.get(key, 0) + 1

    def user(self, message: Message) -> None:
        self.perform(self.session.handle("user", message, self.now))

    def connect(self, restart: bool) -> None:
        self.disconnect()
        self.epoch += restart
        self.up = True
        self.perform(self.session.line_up(self.now))

    def disconnect(self) -> None:
        """All that is under way is lost, some of it after it was heard."""
        if self.up:
            self.deliver_some(self.to_core, self.core_hears)
        self.to_core.clear()
        self.to_client.clear()
        self.up = False
        self.perform(self.session.line_down(self.now))

    def deliver_some(self, queue: list[Any], hear: Callable[[Any], None]) -> None:
        for _ in range(self.chance.randint(0, len(queue))):
            hear(queue.pop(0))

    def core_hears(self, message: Message) -> None:
        tell = self.to_client.append
        if isinstance(message, Hello):
            tell(Welcome(core="core", epoch=self.epoch, name="lab"))
        elif isinstance(message, PutBlob):
            self.blobs.add(message.hash)
        elif isinstance(message, SubmitTask):
            if message.function not in self.blobs:
                tell(BlobMissing(hash=message.function))
                self.to_core.append(message)  # parked until the blob is there
                return
            self.accepted.setdefault(message.task, message)
            tell(TaskAccepted(task=message.task))
            self.to_client += self.ran.get(message.task, [])
        elif isinstance(message, FetchTask):
            self.to_client += self.ran.get(message.task, [])

    def run_something(self) -> None:
        """A slice of some record ends; ends may be told twice and late."""
        for task, spec in self.accepted.items():
            ends = self.ran.setdefault(task, [])
            known = {n for e in ends for n in range(e.first, e.first + e.items) if n - e.first not in e.holes}
            open_items = [n for n in range(spec.items) if n not in known]
            if open_items and self.chance.random() < 0.7:
                first = open_items[0]
                last = self.chance.randint(first, spec.items - 1)
                holes = tuple(n - first for n in range(first, last + 1) if n in known or self.chance.random() < 0.2)
                if len(holes) <= last - first:
                    ends.append(end(task, first, last - first + 1, holes))
                    if self.up:
                        self.to_client.append(ends[-1])

    def client_hears(self, message: Message) -> None:
        self.perform(self.session.handle("core", message, self.now))

    def disturb(self) -> None:
        if self.to_client and self.chance.random() < 0.3:
            self.to_client.append(self.chance.choice(self.to_client))
        if self.chance.random() < 0.2:
            self.chance.shuffle(self.to_client)

    def settle_down(self) -> None:
        """The network is well again: everything must come to its end."""
        self.connect(restart=self.chance.random() < 0.5)
        for _ in range(200):
            self.now += 0.6
            self.perform(self.session.tick(self.now))
            for _ in range(len(self.to_core)):
                self.core_hears(self.to_core.pop(0))
            self.run_something()
            for message in self.to_client[:]:
                self.client_hears(message)
            self.to_client.clear()
            if not self.session.records:
                return


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80))
def test_every_item_settles_exactly_once(seed: int, length: int) -> None:
    network = Network(random.Random(seed))
    submitted: dict[str, int] = {}
    for step in network.chance.choices("ssrrrhhhhllllcdku", k=length):
        network.now += 0.1
        if step == "s":
            task, items = f"t{len(submitted)}", network.chance.choice([1, 1, 3, 8])
            submitted[task] = items
            network.user(BLOB)
            network.user(submit(task, items))
        elif step == "r":
            network.run_something()
        elif step == "c":
            network.connect(restart=False)
        elif step == "k":
            network.connect(restart=True)
        elif step == "d":
            network.disconnect()
        elif step == "h" and network.up:
            network.deliver_some(network.to_core, network.core_hears)
        elif step == "l" and network.up:
            network.disturb()
            network.deliver_some(network.to_client, network.client_hears)
        elif step == "u":
            network.perform(network.session.tick(network.now))
    network.settle_down()
    expected = {(task, item): 1 for task, items in submitted.items() for item in range(items)}
    assert network.settled == expected
    assert not network.session.records
    assert not network.session.unaccepted
