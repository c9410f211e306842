"""The decisions about a hub on another computer: when to connect, what to report, and how to end it.

Pure: events and the time are arguments, effects are commands. The life of the connection:

    DIALLING ──the agent reports the hub──► CONNECTED ──the hub has ended──► ENDED
        ▲  └──ssh ends, or takes too long──┐    │ ssh ends
        └──────────after a pause────────── LOST ◄┘

`stop` makes each of them end the hub: the agent gets the order as soon as there is a connection. A hub that cannot be
reached within STOP_S is reported as left.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

DIAL_S = 40.0  # in which ssh must connect and the agent must report the hub
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # between two attempts; the last one is repeated
STOP_S = 11.0  # in which a hub must be ended
GRACE_S = 5.0  # in which a hub ends in good order, before it is killed


class Phase(Enum):
    DIALLING = "dialling"
    CONNECTED = "connected"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True)
class Dial:
    """Start ssh; `start`: the agent starts the hub if it does not run. `log_at`: how much of its log is known."""

    start: bool
    log_at: int


@dataclass(frozen=True)
class HangUp:
    """End ssh."""


@dataclass(frozen=True)
class Order:
    """Send this to the agent."""

    word: dict[str, Any]


@dataclass(frozen=True)
class ShowLog:
    """Write this part of the hub's log."""

    text: str


@dataclass(frozen=True)
class Note:
    """Write a sentence on the connection; `is_trouble`: something is not as it should be."""

    text: str
    is_trouble: bool = False


@dataclass(frozen=True)
class HubKnown:
    """The hub runs on this computer with this pid."""

    host: str
    pid: int


@dataclass(frozen=True)
class Finish:
    """End the launcher; `left` is a sentence on what may still run there, `failed` one on why there is no hub."""

    left: str = ""
    failed: str = ""


Command: TypeAlias = "Dial | HangUp | Order | ShowLog | Note | HubKnown | Finish"


class SshLauncher:
    """The state machine of one hub on another computer.

    Parameters
    ----------
    host
        The name under which ssh reaches that computer.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.phase = Phase.LOST
        self.stopping = False
        self._has_started = False  # an agent has reported a hub
        self._hub = ""
        self._log_at = 0
        self._failures = 0
        self._due = 0.0  # when the phase ends by itself
        self._stop_at = float("inf")
        self._hung_up = ""

    # ── events ──

    def start(self, now: float) -> list[Command]:
        """Return the first commands."""
        return self._dial(now)

    def agent_said(self, word: dict[str, Any], now: float) -> list[Command]:
        """Return the commands that follow from a message of the agent."""
        if self.phase is Phase.ENDED:
            return []
        if "log" in word:
            self._log_at = int(word.get("at", 0))
            return [ShowLog(str(word["log"]))]
        if "hub" in word:
            return self._connected(word, now)
        if word.get("ended"):
            return self._hub_ended(word)
        if "failed" in word:
            return self._finish(failed=f"no hub can run on {self.host}: {word['failed']}")
        return []

    def ssh_ended(self, reason: str, now: float) -> list[Command]:
        """Return the commands that follow from the end of ssh."""
        if self.phase is Phase.ENDED:
            return []
        reason, self._hung_up = self._hung_up or reason, ""
        pause_s = PAUSES_S[0] if self.stopping else PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
        self._failures += 1
        was_connected, self.phase, self._due = self.phase is Phase.CONNECTED, Phase.LOST, now + pause_s
        if was_connected:
            return [Note(f"the connection to {self.host} is lost ({reason}); the hub there goes on", True)]
        return [Note(f"{self.host} cannot be reached ({reason}); another attempt follows in {pause_s:g} s", True)]

    def stop(self, now: float) -> list[Command]:
        """Return the commands that end the hub; Finish follows when it has ended, or cannot be reached."""
        if self.stopping or self.phase is Phase.ENDED:
            return []
        self.stopping, self._stop_at = True, now + STOP_S
        if self.phase is not Phase.LOST:
            return [self._order()]
        return self._dial(now) if self._has_started else self._finish()

    def tick(self, now: float) -> list[Command]:
        """Return the commands that follow from the time."""
        if self.phase is Phase.ENDED:
            return []
        if now >= self._stop_at:
            return self._finish(left=self.left())
        if self.phase is Phase.LOST and now >= self._due:
            return self._dial(now)
        if self.phase is Phase.DIALLING and now >= self._due:
            self._due, self._hung_up = float("inf"), f"no answer within {DIAL_S:g} s"
            return [HangUp()]
        return []

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do."""
        if self.phase is Phase.ENDED:
            return None
        at = self._stop_at if self.phase is Phase.CONNECTED else min(self._due, self._stop_at)
        return at if at < float("inf") else None

    def left(self) -> str:
        """Return the sentence on what may still run there; "" if nothing has been started."""
        if not self._has_started and self.phase is Phase.LOST:
            return ""
        which = f"the hub on {self.host}" + (f" ({self._hub})" if self._hub else "")
        return f"{which} could not be reached and may still run; it ends by itself after LB_ORPHAN_S without a core"

    # ── the rest ──

    def _dial(self, now: float) -> list[Command]:
        self.phase, self._due = Phase.DIALLING, now + DIAL_S
        dial = Dial(start=not self._has_started and not self.stopping, log_at=self._log_at)
        return [dial, self._order()] if self.stopping else [dial]

    def _connected(self, word: dict[str, Any], now: float) -> list[Command]:
        pid, host = int(word["hub"]), str(word.get("host", ""))
        again = self._has_started
        self._hub = f"pid {pid} on {host}"
        self.phase, self._has_started, self._failures, self._due = Phase.CONNECTED, True, 0, now
        how = "runs on" if word.get("found") or again else "has started"
        return [HubKnown(host, pid), Note(f"connected to {self.host}: the hub ({self._hub}) {how}")]

    def _hub_ended(self, word: dict[str, Any]) -> list[Command]:
        how = cause(word.get("code"))
        left = f"its folder on {self.host} could not be removed" if word.get("left") else ""
        if not self._has_started:
            if self.stopping:
                return self._finish(left=left)
            return self._finish(failed=f"the hub on {self.host} ended while it started: {how}")
        return [Note(f"the hub on {self.host} ({self._hub}) has ended: {how}"), *self._finish(left=left)]

    def _order(self) -> Order:
        return Order({"stop": GRACE_S})

    def _finish(self, left: str = "", failed: str = "") -> list[Command]:
        self.phase = Phase.ENDED
        return [HangUp(), Finish(left, failed)]


def cause(code: object) -> str:
    """Return the cause of the end of a process in words, from its exit code in a shell."""
    if not isinstance(code, int):
        return "its exit code is not known; the computer may have restarted"
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return "in good order" if code == 0 else f"exit code {code}"
