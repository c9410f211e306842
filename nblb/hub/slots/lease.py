"""A hub's lease from its core: when to send a hello or a heartbeat, and when the lease is over; pure.

The lease counts from when this hub *sent* the latest heartbeat that the core has acknowledged (`echo`). The core
counts the same lease from when it *received* that heartbeat, which was later, and assigns the hub's work to others when
it is over. So whatever is lost or late in between, this hub has stopped before that; the two clocks need only run at
the same rate. On the core's own computer, the lease also goes on while the core's process lives (`extend`).
"""

from __future__ import annotations

from collections import deque

from nblb.protocol.messages import Welcome

MEASURED = 8  # latest heartbeats, of which the quickest tells the way: others have waited for a busy core


class CoreLease:
    """The connection and lease; `is_up` from the core's Welcome until the line breaks or the core is silent."""

    def __init__(self, heartbeat_s: float, suspect_s: float, lease_s: float, hello_again_s: float = 2.0) -> None:
        self.heartbeat_s = heartbeat_s
        self._suspect_s, self._lease_s, self._hello_again_s = suspect_s, lease_s, hello_again_s
        self.is_up = False
        self.is_wired = False  # a line to a core exists
        self.is_over = False  # the lease is over: what runs is being stopped, and nothing is begun
        self.core = ""
        self.epoch = 0
        self.hello_at = 0.0  # next hello, while it is not up
        self.heartbeat_at = 0.0  # next heartbeat, while it is up
        self.apart_since = 0.0  # since when it is not up
        self._received_at = 0.0
        self._acknowledged = 0.0  # send time of the latest message that the core has acknowledged
        self._greeted = 0.0  # when the last hello was sent; acknowledgements of earlier messages are void
        self._declared = 0.0  # `_acknowledged` at that time
        self._lease_runs = False
        self._round_trips: deque[float] = deque(maxlen=MEASURED)
        self._echoes = False  # this core acknowledges heartbeats

    @property
    def leased_at(self) -> float:
        """Start of the lease; 0.0 if none runs."""
        return self._acknowledged if self._lease_runs else 0.0

    def received(self, now: float) -> None:
        self._received_at = now
        if not self._echoes:
            self._acknowledged = now

    @property
    def way_s(self) -> float:
        """The shortest of the latest round trips; 0 if none was measured."""
        return min(self._round_trips, default=0.0)

    def acknowledge(self, at: float, now: float) -> None:
        """Extend the lease: the core has received the heartbeat sent at this time."""
        if self.is_up and self._greeted <= at <= now:
            self._round_trips.append(now - at)
        if self.is_up and at >= self._greeted and at > self._acknowledged:
            self._acknowledged = at
            self._lease_runs, self.is_over = True, False

    def extend(self, now: float) -> None:
        """Extend the lease without an answer: the core's process lives on this computer, and the line to it holds.

        Such a core has received our messages, or will receive them before it looks at the time: it stands still, and
        assigns nothing meanwhile. A lease that is over, because this hub itself stood still, is not extended.
        """
        if self._lease_runs and not self.has_lapsed(now):
            self._acknowledged = max(self._acknowledged, now)

    def sleep(self, seconds: float, now: float) -> None:
        """Count a sleep of this computer, in which its clock stood still and that of a core elsewhere went on.

        What the core acknowledges of the time before may have reached it before the sleep: it extends nothing.
        """
        self._acknowledged -= seconds
        self._greeted = now

    def greet(self, now: float) -> None:
        """Note that a hello is sent. It contains `leased_at`, from which the core then counts too."""
        self._greeted, self._declared = now, self._acknowledged

    def agree(self, lease_s: float, suspect_s: float) -> None:
        """Take the core's numbers: a hub with others would run on what the core has given to another hub."""
        self._lease_s, self._suspect_s = lease_s, suspect_s

    def welcome(self, message: Welcome, now: float) -> bool:
        """Return True if this answers our hello; an unexpected one is from a new core, which needs a hello."""
        if self.is_up:
            if (message.core, message.epoch) != (self.core, self.epoch):
                self.break_(now)
            return False
        is_same = (message.core, message.epoch) == (self.core, self.epoch)
        self.is_up = True
        self.core, self.epoch = message.core, message.epoch
        self._echoes = message.echo > 0.0
        self._acknowledged = message.echo if self._echoes else now
        if is_same and 0.0 < message.echo < self._greeted:  # it may answer an earlier hello
            self._acknowledged = min(message.echo, self._declared)
        self.is_over = now >= self._acknowledged + self._lease_s  # until a heartbeat is acknowledged
        self._lease_runs = not self.is_over
        self.heartbeat_s = message.heartbeat_s
        self.heartbeat_at = now
        return True

    def has_lapsed(self, now: float) -> bool:
        """Return whether the lease is over, even if `check` was not called since because the hub was stopped."""
        return self._lease_runs and now >= self._acknowledged + self._lease_s

    def break_(self, now: float) -> None:
        """Send a hello as soon as possible, since the core does not receive our messages or is a new one."""
        self.drop(now)
        self.hello_at = now

    def drop(self, now: float) -> None:
        """Note that there is no connection to a core any more."""
        if self.is_up:
            self.apart_since = now
        self.is_up = False
        self._round_trips.clear()

    def forgive(self) -> None:
        """Suspend the lease until the next Welcome: the core's process has ended, so it cannot reassign our work."""
        self._lease_runs = False

    def check(self, now: float) -> tuple[bool, bool, bool]:
        """Return what is due: (hello, heartbeat, the end of the lease)."""
        if self.is_up and now - self._received_at > self._suspect_s:
            self.break_(now)
        hello = self.is_wired and not self.is_up and now >= self.hello_at
        if hello:
            self.hello_at = now + self._hello_again_s
        heartbeat = self.is_up and now >= self.heartbeat_at
        if heartbeat:
            self.heartbeat_at = now + self.heartbeat_s
        over = self.has_lapsed(now)
        if over:
            self._lease_runs, self.is_over = False, True
        return hello, heartbeat, over

    def deadline(self) -> float:
        """Return when `check` has something to do."""
        if self.is_up:
            at = min(self.heartbeat_at, self._received_at + self._suspect_s + 1e-3)
        else:
            at = self.hello_at if self.is_wired else float("inf")
        return min(at, self._acknowledged + self._lease_s) if self._lease_runs else at
