"""Whose tasks a hub runs, and as which account."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from nblb.errors import ParametersError
from nblb.hub.slots.slots import not_of_the_owner
from nblb.parameters import Parameters
from nblb.protocol.messages import Group
from nblb.system import accounts

SUBMITTER = "submitter"
KNOWN_S = 30.0  # an answer about an account is used again for so long


def check(parameters: Parameters) -> None:
    """Raise ParametersError if a hub here cannot run its workers as the accounts that its groups want.

    Parameters
    ----------
    parameters
        Those of the hub.
    """
    wanted = {group.run_as for group in parameters.worker_groups()}
    if SUBMITTER not in wanted:
        return
    where = f'{parameters.source}: WKHUB_WORKERS has a group with "run_as": "submitter"'
    if len(wanted) > 1:
        raise ParametersError(f"{where} and one without; start a hub of its own for each of the two.")
    if os.geteuid() != 0:
        raise ParametersError(
            f"{where}, and only a hub that root runs can start workers as other accounts; start it as root "
            "('nblb service install --system'), or leave the key out."
        )
    if parameters.LB_SECURITY != "on":
        raise ParametersError(
            f'{where}, and with LB_SECURITY "none" a client can use any user\'s name, root\'s included; use "on".'
        )


class HubAdmission:
    """Decides whether a group of a hub runs the tasks of a user."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, tuple[str, ...]], tuple[float, str]] = {}

    def refusal(self, group: Group, user: str) -> str:
        """Return why the group does not run tasks of this user, in a sentence; "" if it does."""
        reason = not_of_the_owner(group, user)
        if reason or group.run_as != SUBMITTER:
            return reason
        key, now = (user, group.only), self._clock()
        until, reason = self._known.get(key, (0.0, ""))
        if now >= until:
            reason = accounts.refusal(user, group.only)
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[key] = now + KNOWN_S, reason
        return reason
