"""The simulated network between the core and its parties: connections that delay, stall, lose, repeat and break.

A connection behaves like ZeroMQ: messages arrive in order until it breaks; then messages in flight are lost, and the
party dials again and learns that it has a new connection. In addition the weather of a history may lose, repeat or
reorder single messages. Messages sent while a party is cut off wait in its socket or are lost, at random.
"""

from __future__ import annotations

from random import Random
from typing import Protocol

import msgspec

from nblb.protocol.messages import Message, WorkerDied
from nblb.simulation.simulator import Simulator

DISTANCES_S = (0.0, 0.0, 0.01, 0.05, 0.2)  # one way to a party: this room, this country, another continent
JITTER = 0.5  # of the distance


class Weather(msgspec.Struct, frozen=True):
    """The faults of the network; probabilities are per message."""

    delay_s: float = 0.001
    jitter_s: float = 0.002
    slow: float = 0.0  # a message takes up to a second
    drop: float = 0.0  # lost; the connection breaks some time later, as TCP's would
    repeat: float = 0.0
    reorder: float = 0.0  # overtakes earlier messages
    unanswered: float = 0.0  # the core's first message on a new connection is lost, and the connection lasts


CALM = Weather()


class End(Protocol):
    """The process at an end of a connection."""

    def hear(self, sender: str, message: Message) -> None: ...

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...


class CoreEnd(Protocol):
    """The core's end of all connections."""

    def hear(self, sender: str, message: Message) -> None: ...

    def unreachable(self, address: str) -> None: ...


class Link:
    """One party's connection to the core."""

    __slots__ = ("address", "answered", "cut_in", "cut_out", "ends_at", "far_s", "number", "party", "stalled", "up")

    def __init__(self, address: str, party: End) -> None:
        self.address = address
        self.party = party
        self.number = 0  # of the connection; messages of an earlier one are lost
        self.up = False
        self.answered = False  # the core has sent something on this connection
        self.cut_in = self.cut_out = False  # party to core, core to party
        self.far_s = 0.0  # what the distance of the party adds to each way
        self.ends_at = [0.0, 0.0]  # when the last message of each direction arrives
        self.stalled: list[tuple[bool, Message]] = []  # sent during a cut, or before there was a connection


class Network:
    """Carries messages between the core and the parties."""

    def __init__(self, simulator: Simulator, weather: Weather) -> None:
        self.simulator = simulator
        self.weather = weather
        self.core: CoreEnd | None = None  # None: the core's sockets are closed
        self.links: dict[str, Link] = {}
        self.lost = 0
        self.miscounted: set[str] = set()  # hubs of which the core was not told that a worker has ended
        self.far: Random | None = None  # draws the distance of each party, in histories with distant ones

    # ── connections ──

    def dial(self, address: str, party: End) -> None:
        """Connects the party, and reconnects it from now on."""
        self.links[address] = Link(address, party)
        if self.far is not None:
            self.links[address].far_s = self.far.choice(DISTANCES_S)
        self._connect_soon(self.links[address])

    def hang_up(self, address: str, orderly: bool = False) -> None:
        """Drops a party whose process has ended, with unsent messages; `orderly`: they still arrive."""
        link = self.links.pop(address, None)
        if link is not None:
            link.number += not orderly
            link.up = False

    def listen(self, core: CoreEnd) -> None:
        self.core = core
        for link in self.links.values():
            self._connect_soon(link)

    def close(self) -> None:
        """Closes the core's end: its process has ended."""
        self.core = None
        for link in self.links.values():
            self._lose(link)

    def break_connection(self, address: str) -> None:
        """Breaks a connection: messages in flight are lost, and the party dials again."""
        link = self.links.get(address)
        if link is None or not link.up:
            return
        self.simulator.note("network", f"connection of {address} breaks")
        self._lose(link)
        self._connect_soon(link)

    def cut(self, address: str, inwards: bool, outwards: bool) -> None:
        """Stalls the connection in these directions."""
        link = self.links.get(address)
        if link is not None:
            link.cut_in, link.cut_out = inwards, outwards
            self.simulator.note("network", f"{address} is cut off (to the core {inwards}, from it {outwards})")

    def mend(self, address: str, broken: bool) -> None:
        """Ends a cut; the connection either goes on where it stalled or is a new one."""
        link = self.links.get(address)
        if link is None:
            return
        link.cut_in = link.cut_out = False
        self.simulator.note("network", f"{address} is no longer cut off")
        if broken:
            self.break_connection(address)
        elif link.up:
            self._release(link)

    def unsay(self, address: str) -> None:
        """Drops the messages that the party's socket has not sent yet."""
        link = self.links.get(address)
        if link is not None:
            link.stalled = [(inwards, message) for inwards, message in link.stalled if not inwards]

    def _lose(self, link: Link) -> None:
        link.number += 1
        link.up = False
        kept = self.simulator.random.random() < 0.5  # messages that a DEALER socket has not sent yet survive
        self.lost += len(link.stalled)
        self.simulator.after(self.simulator.random.random() * 0.01, self._noticed, link, link.number)
        link.stalled = [(inwards, m) for inwards, m in link.stalled if inwards and kept]

    def _noticed(self, link: Link, number: int) -> None:
        if link.number == number and self.links.get(link.address) is link:
            link.party.disconnected()

    def _connect_soon(self, link: Link) -> None:
        self.simulator.after(0.01 + self.simulator.random.random() * 0.3, self._connect, link, link.number)

    def _connect(self, link: Link, number: int) -> None:
        if self.core is None or link.up or link.number != number or self.links.get(link.address) is not link:
            return
        if link.cut_in or link.cut_out:
            self._connect_soon(link)
            return
        link.up, link.answered = True, False
        link.number += 1
        link.ends_at = [self.simulator.now, self.simulator.now]
        self._release(link)
        link.party.connected()

    def _release(self, link: Link) -> None:
        waiting, link.stalled = link.stalled, []
        for inwards, message in waiting:
            self._carry(link, inwards, message)

    # ── messages ──

    def to_core(self, address: str, message: Message) -> None:
        link = self.links.get(address)
        if link is None:
            return
        if link.cut_in or not link.up:
            link.stalled.append((True, message))
            return
        self._carry(link, True, message)

    def to_party(self, address: str, message: Message) -> None:
        link = self.links.get(address)
        if link is None or not link.up:
            if self.core is not None:
                self.core.unreachable(address)
            self.lost += 1
            return
        if link.cut_out:
            link.stalled.append((False, message))
            return
        is_first, link.answered = not link.answered, True
        if is_first and self.simulator.chance(self.weather.unanswered):
            self.lost += 1
            self.simulator.note("network", f"loses the first word to {address}")
            return
        self._carry(link, False, message)

    def _carry(self, link: Link, inwards: bool, message: Message) -> None:
        simulator, weather = self.simulator, self.weather
        if (inwards and link.cut_in) or (not inwards and link.cut_out):
            link.stalled.append((inwards, message))
            return
        chance = simulator.random.random
        delay = weather.delay_s + chance() * weather.jitter_s
        if self.far is not None and link.far_s:
            delay += link.far_s * (1.0 + JITTER * self.far.random())
        if weather is not CALM:
            if simulator.chance(weather.drop):
                self.lost += 1
                if type(message) is WorkerDied:
                    self.miscounted.add(link.address)
                simulator.note("network", f"loses {type(message).__name__} of {link.address}")
                simulator.after(chance() * 2.0, self._breaks, link, link.number)
                return
            if simulator.chance(weather.slow):
                delay += chance()
            if simulator.chance(weather.repeat):
                simulator.after(delay + chance() * 0.5, self._arrive, link, link.number, inwards, message)
            if simulator.chance(weather.reorder):
                simulator.after(delay * 0.5, self._arrive, link, link.number, inwards, message)
                return
        arrives = max(link.ends_at[inwards], simulator.now + delay)
        link.ends_at[inwards] = arrives
        simulator.at(arrives, self._arrive, link, link.number, inwards, message)

    def _breaks(self, link: Link, number: int) -> None:
        if link.number == number and self.links.get(link.address) is link:
            self.break_connection(link.address)

    def _arrive(self, link: Link, number: int, inwards: bool, message: Message) -> None:
        if link.number != number:
            self.lost += 1
            return
        if (inwards and link.cut_in) or (not inwards and link.cut_out):
            link.stalled.append((inwards, message))
        elif not inwards:
            link.party.hear("core", message)
        elif self.core is not None:
            self.core.hear(link.address, message)
