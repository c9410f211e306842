"""The end of a core that nobody uses: LB_IDLE_TIMEOUT_S after its last client, with nothing that runs or waits."""

from __future__ import annotations

from typing import Any

from nblb.protocol.commands import Halt
from nblb.protocol.messages import StopHub
from nblb.quantities import duration
from nblb.scheduling.state import State

ANNOUNCED_S = 60.0  # before the end, or for half of a shorter time-out
LOOK_S = 5.0  # between two looks, or a tenth of a shorter time-out


class IdleEnd:
    """Ends a core that is idle for longer than its policy allows.

    Parameters
    ----------
    state
        The scheduler's state; `state.policy.idle_timeout_s` is the time, 0 for never.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._timeout_s = state.policy.idle_timeout_s
        self._look_at = 0.0
        self._idle_since: float | None = None
        self._is_announced = False
        self._has_ended = False

    def tick(self, now: float) -> None:
        """Look whether somebody uses the core; announce its end, or end it."""
        if not self._timeout_s or now < self._look_at or self._has_ended:
            return
        self._look_at = now + min(LOOK_S, self._timeout_s / 10)
        if is_used(self.state):
            if self._is_announced:
                self.state.log("info", "LB - IN USE AGAIN : it does not end")
            self._idle_since, self._is_announced = None, False
            return
        if self._idle_since is None:
            self._idle_since = now
        left_s = self._idle_since + self._timeout_s - now
        if left_s <= 0.0:
            self._end()
        elif left_s <= min(ANNOUNCED_S, self._timeout_s / 2) and not self._is_announced:
            self._is_announced = True
            self.state.log("warning", f"LB - IDLE : {self.sentence(now)}")

    def next_deadline(self) -> float | None:
        """Return when the next look is due; None if the core never ends by itself."""
        return self._look_at if self._timeout_s and not self._has_ended else None

    def sentence(self, now: float) -> str:
        """Return what people read about it; "" if the core never ends by itself."""
        if not self._timeout_s:
            return ""
        whole = duration(self._timeout_s)
        if self._idle_since is None:
            return f"ends {whole} after its last client and task (LB_IDLE_TIMEOUT_S)"
        left = duration(max(0.0, self._idle_since + self._timeout_s - now))
        return f"ends in {left}, because there is no client and no task (LB_IDLE_TIMEOUT_S is {whole})"

    def described(self, now: float) -> dict[str, Any] | None:
        """Return the sentence and the remaining time for status queries; None if the core never ends by itself."""
        if not self._timeout_s:
            return None
        left_s = None if self._idle_since is None else max(0.0, self._idle_since + self._timeout_s - now)
        return {"timeout_s": self._timeout_s, "ends_in_s": left_s, "text": self.sentence(now)}

    def _end(self) -> None:
        self._has_ended = True
        reason = f"nobody has used the cluster for {duration(self._timeout_s)} (LB_IDLE_TIMEOUT_S)"
        for hub in self.state.hubs.values():
            self.state.send(hub.address, StopHub(reason=reason))
        self.state.out.append(Halt(reason))


def is_used(state: State) -> bool:
    """Return whether a client is connected that can submit tasks, or anything runs or waits."""
    return bool(
        state.orphans
        or state.withheld
        or state.parked
        or any(client.submits for client in state.clients.values())
        or any(hub.in_flight for hub in state.hubs.values())
        or any(user.waiting for user in state.share.users.values())
    )
