"""A hub's tie to its core: when to say hello, when to say that it is alive, and when the lease is over; pure.

The lease is counted from when this hub *said* the latest heartbeat that the core has acknowledged (`echo`). The core
counts the same lease from when it *heard* that heartbeat, which was later, and gives the hub's work to others when it
is over. So whatever is lost or late in between, this hub has stopped before that; only the two clocks must run alike.
"""

from __future__ import annotations

from nblb.protocol.messages import Welcome


class CoreLease:
    """Knows whether the core hears us. `is_up` from its Welcome until the line breaks or it falls silent."""

    def __init__(self, heartbeat_s: float, suspect_s: float, lease_s: float, hello_again_s: float = 2.0) -> None:
        self.heartbeat_s = heartbeat_s
        self._suspect_s, self._lease_s, self._hello_again_s = suspect_s, lease_s, hello_again_s
        self.is_up = False
        self.is_wired = False  # there is a line that words can go over
        self.is_over = False  # the lease: what runs is being stopped, and nothing is begun
        self.core = ""
        self.epoch = 0
        self.hello_at = 0.0  # while it is not up
        self.heartbeat_at = 0.0  # while it is
        self._heard_at = 0.0
        self._acknowledged = 0.0  # when that was said which the core is known to have heard
        self._greeted = 0.0  # when the last hello was said: with it all that was said before is void
        self._declared = 0.0  # what was acknowledged then
        self._lease_runs = False
        self._echoes = False  # this core acknowledges heartbeats

    @property
    def leased_at(self) -> float:
        """From when the lease counts; 0.0 where none runs."""
        return self._acknowledged if self._lease_runs else 0.0

    def hear(self, now: float) -> None:
        self._heard_at = now
        if not self._echoes:
            self._acknowledged = now

    def acknowledge(self, at: float) -> None:
        """The core has heard the heartbeat that was said then."""
        if self.is_up and at >= self._greeted and at > self._acknowledged:
            self._acknowledged = at
            self._lease_runs, self.is_over = True, False

    def greet(self, now: float) -> None:
        """A hello is said. It names `leased_at`, and from here on the core counts from there too."""
        self._greeted, self._declared = now, self._acknowledged

    def welcome(self, message: Welcome, now: float) -> bool:
        """True if this answers our hello; a Welcome out of the blue is another core, which wants to hear one."""
        if self.is_up:
            if (message.core, message.epoch) != (self.core, self.epoch):
                self.break_(now)
            return False
        is_same = (message.core, message.epoch) == (self.core, self.epoch)
        self.is_up = True
        self.core, self.epoch = message.core, message.epoch
        self._echoes = message.echo > 0.0
        self._acknowledged = message.echo if self._echoes else now
        if is_same and 0.0 < message.echo < self._greeted:  # it may answer an earlier hello than the last
            self._acknowledged = min(message.echo, self._declared)
        self.is_over = now >= self._acknowledged + self._lease_s  # until a heartbeat is acknowledged
        self._lease_runs = not self.is_over
        self.heartbeat_s = message.heartbeat_s
        self.heartbeat_at = now
        return True

    def has_lapsed(self, now: float) -> bool:
        """The lease is over, though `check` may not have been asked since: this hub has stood still for long."""
        return self._lease_runs and now >= self._acknowledged + self._lease_s

    def break_(self, now: float) -> None:
        """The core does not hear us any more, or is another: say hello as soon as can be."""
        self.is_up = False
        self.hello_at = now

    def forgive(self) -> None:
        """The core's process has ended, so it gives nobody our work: no lease runs until the next Welcome."""
        self._lease_runs = False

    def check(self, now: float) -> tuple[bool, bool, bool]:
        """What is due: (hello, heartbeat, the end of the lease)."""
        if self.is_up and now - self._heard_at > self._suspect_s:
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
        """When `check` has something to do."""
        if self.is_up:
            at = min(self.heartbeat_at, self._heard_at + self._suspect_s + 1e-3)
        else:
            at = self.hello_at if self.is_wired else float("inf")
        return min(at, self._acknowledged + self._lease_s) if self._lease_runs else at
