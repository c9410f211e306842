"""Waits for a condition with a deadline, so that no test relies on sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

T = TypeVar("T")
LEAST_S = 60.0  # no test fails by how busy its machine is: a deadline only bounds how long a failure takes


def wait_until(condition: Callable[[], T], deadline_s: float = 10.0, what: str = "", every_s: float = 0.01) -> T:
    """The first true answer of `condition`; after `deadline_s`, or LEAST_S, an AssertionError that names `what`.

    The last answer (or error) of the condition stands in the message, so a failure says how far it came.
    """
    deadline_s = max(deadline_s, LEAST_S)
    end = time.monotonic() + deadline_s
    said: object = None
    while True:
        try:
            said = answer = condition()
        except Exception as error:  # not yet there, or never: the deadline decides
            said = error
        else:
            if answer:
                return answer
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline_s} s: {what or condition} (last: {said!r})")
        time.sleep(every_s)


def all_accepted(cluster: Cluster) -> bool:
    """Nothing waits to be said or to be accepted."""
    inbox = cluster.connection.inbox
    return not (inbox or inbox.is_awake or cluster.connection.session.unaccepted)
