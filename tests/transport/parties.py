"""The messages that the tests of the transport send and receive."""

from __future__ import annotations

from time import monotonic
from typing import Any

from nblb.protocol.messages import Heartbeat, Hello, Welcome
from nblb.transport.door import Arrived
from nblb.transport.doors import Doors
from nblb.transport.line import Line
from nblb.transport.local_line import LocalLine

DEADLINE_S = 60.0
AnyLine = Line | LocalLine
WELCOME = Welcome(core="c", epoch=1, name="t")


def arrivals(doors: Doors, number: int = 1) -> list[Arrived]:
    """The next so many arrivals."""
    end, found = monotonic() + DEADLINE_S, list[Arrived]()
    while len(found) < number:
        assert monotonic() < end, f"only {len(found)} of {number} arrived"
        found += doors.receive(1)
    return found


def heard(line: AnyLine, number: int = 1) -> list[Any]:
    end, found = monotonic() + DEADLINE_S, list[Any]()
    while len(found) < number:
        assert monotonic() < end, f"only {len(found)} of {number} were heard"
        found += line.receive(1)
    return found


def greet(doors: Doors, line: AnyLine, hub: bool = False) -> str:
    """The address under which the doors know this line."""
    line.send([Heartbeat()] if hub else [Hello(client="c", user="u")])
    return arrivals(doors)[0].sender
