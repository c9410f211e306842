"""The Monitor's controls: each checks the viewer's role, sends one request to the core, and says what it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nblb.errors import NblbError, NotAllowed
from nblb.monitoring import access
from nblb.monitoring.access import Viewer
from nblb.monitoring.poller import Poller
from nblb.protocol.messages import CancelTask, DrainHub, ForgetJob, RemoveHub, RetryFailed, ScaleHub, SetPriority

MOST_WORKERS_A_CORE = 8  # beyond that, a number of workers is more likely a slip than a wish


class Controls:
    """What one viewer can do; every method blocks for the core's answer and returns a sentence."""

    def __init__(self, poller: Poller, viewer: Viewer) -> None:
        self._poller = poller
        self.viewer = viewer

    def refusal(self, action: str, owner: str = "") -> str:
        """Return why the viewer may not do it; "" if the viewer may."""
        return access.refusal(self.viewer, action, owner)

    def _order(self, action: str, owner: str, message: Any) -> Any:
        refused = self.refusal(action, owner)
        if refused:
            raise NotAllowed(refused)
        return self._poller.order(message, self.viewer)

    # ── tasks and jobs ──

    def cancel_call(self, task: str, item: int, of: int, name: str, owner: str, kill: bool = False) -> str:
        message = CancelTask(request=1, task=task, first=item if of > 1 else 0, items=1 if of > 1 else 0, kill=kill)
        number = int(self._order("cancel", owner, message))
        return f"{'killed' if kill else 'cancelled'} {name}" if number else f"{name} had ended already"

    def cancel_job(self, job: str, name: str, owner: str, kill: bool = False) -> str:
        number = int(self._order("cancel", owner, CancelTask(request=1, job=job, kill=kill)))
        return f"cancelled {calls(number)} of {name}" if number else f"nothing of {name} was left to cancel"

    def retry(self, name: str, owner: str, task: str = "", job: str = "") -> str:
        number = int(self._order("retry", owner, RetryFailed(request=1, task=task, job=job)))
        return f"{calls(number)} of {name} run again" if number else f"nothing of {name} has failed"

    def priority(self, priority: float, name: str, owner: str, task: str = "", job: str = "") -> str:
        message = SetPriority(request=1, priority=priority, task=task, job=job)
        number = int(self._order("priority", owner, message))
        return f"{calls(number)} of {name} that have not ended have priority {priority:g} now"

    def forget(self, job: str, name: str, owner: str) -> str:
        self._order("forget", owner, ForgetJob(job=job, request=1))
        return f"{name} and its results are dropped"

    # ── hubs ──

    def scale(self, hub: str, name: str, workers: int) -> str:
        self._order("scale", "", ScaleHub(hub=hub, workers=workers, request=1))
        return f"hub {name} gets {workers:,} worker{'s' * (workers != 1)}"

    def drain(self, hub: str, name: str, drain: bool) -> str:
        left = int(self._order("drain", "", DrainHub(hub=hub, drain=drain, request=1)) or 0)
        if not drain:
            return f"hub {name} takes work again"
        return f"hub {name} takes no new work; {left:,} slice{'s' * (left != 1)} still run there"

    def remove(self, hub: str, name: str, restart: bool) -> str:
        left = int(
            self._order("restart" if restart else "remove", "", RemoveHub(hub=hub, restart=restart, request=1)) or 0
        )
        when = f"when its {left:,} slices have ended" if left else "now"
        return f"hub {name} {'starts again' if restart else 'stops'} {when}"


def number_in(text: str) -> float:
    """Return the number that a viewer has typed.

    Raises
    ------
    NblbError
        It is none; the message quotes it.
    """
    try:
        return float(text)
    except ValueError:
        raise NblbError(f"{text[:40]!r} is not a number") from None


def whole_in(text: str) -> int:
    """Return the whole number, 0 or more, that a viewer has typed; raises NblbError if it is none."""
    if not text.strip().isdecimal() or len(text) > 6:
        raise NblbError(f"{text[:40]!r} is not a whole number, 0 or more")
    return int(text)


def calls(number: int) -> str:
    return f"{number:,} call{'s' * (number != 1)}"


def done(action: Callable[[], str]) -> str:
    """Return the sentence of an action, or why it could not be done."""
    try:
        return action()
    except NblbError as error:
        return f"not done: {error}"
