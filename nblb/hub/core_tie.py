"""A hub's tie to its core: when to say hello, when to say that it is alive, and when the lease is over; pure."""

from __future__ import annotations

from nblb.messages import Welcome


class CoreTie:
    """Knows whether the core hears us. `is_up` from its Welcome until the line breaks or it falls silent."""

    def __init__(self, heartbeat_s: float, suspect_s: float, lease_s: float, hello_again_s: float) -> None:
        self.heartbeat_s = heartbeat_s
        self._suspect_s, self._lease_s, self._hello_again_s = suspect_s, lease_s, hello_again_s
        self.is_up = False
        self.is_wired = False  # there is a line that words can go over
        self.core = ""
        self.epoch = 0
        self.hello_at = 0.0  # while it is not up
        self.heartbeat_at = 0.0  # while it is
        self._heard_at = 0.0
        self._lease_runs = False

    def hear(self, now: float) -> None:
        self._heard_at = now

    def welcome(self, message: Welcome, now: float) -> bool:
        """True if this answers our hello; a Welcome out of the blue is another core, which wants to hear one."""
        if self.is_up:
            if (message.core, message.epoch) != (self.core, self.epoch):
                self.break_(now)
            return False
        self.is_up = self._lease_runs = True
        self.core, self.epoch = message.core, message.epoch
        self.heartbeat_s = message.heartbeat_s
        self.heartbeat_at = now
        return True

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
        over = self._lease_runs and now - self._heard_at > self._lease_s
        if over:
            self._lease_runs = False
        return hello, heartbeat, over

    def deadline(self) -> float:
        """When `check` has something to do."""
        if self.is_up:
            return min(self.heartbeat_at, self._heard_at + self._suspect_s + 1e-3)
        at = self.hello_at if self.is_wired else float("inf")
        return min(at, self._heard_at + self._lease_s + 1e-3) if self._lease_runs else at
