"""The clusters that this process has open; the last one that was used is the current one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb.client import front_end
from nblb.client.connection import wait_display, waiting

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

_open: list[Cluster] = []  # the last one is current; when it closes, the one before it becomes current again
_stopped: list[str] = []  # name of the current cluster that was stopped, until another one is used


def known() -> Cluster | None:
    """The current cluster, if there is one."""
    return _open[-1] if _open else None


def use(cluster: Cluster) -> None:
    """Make this the current cluster."""
    drop(cluster)
    _stopped.clear()
    _open.append(cluster)
    _follow(cluster.parameters)
    front_end.meet_front_end()


def forget(cluster: Cluster) -> None:
    """Remove this cluster; if it was current, the one that was used before it becomes current."""
    drop(cluster)
    before = known()
    if before is not None:
        _follow(before.parameters)


def _follow(parameters: Parameters) -> None:
    """Take over what the parameters of the current cluster say about waits."""
    waiting.on_interrupt = parameters.LB_ON_INTERRUPT
    wait_display.shown_after_s = parameters.LB_SHOW_WAIT_S


def stopped(cluster: Cluster) -> None:
    """Remove a stopped cluster; if it was current and no other is open, no cluster is current until one is used."""
    was_current = known() is cluster
    forget(cluster)
    if was_current and known() is None:
        _stopped[:] = [cluster.name]


def drop(cluster: Cluster) -> None:
    """Remove this cluster, and take over nothing from the one before it."""
    _open[:] = [one for one in _open if one is not cluster]


def all_open() -> list[Cluster]:
    """The open clusters, the current one last."""
    return list(_open)


def stopped_name() -> str:
    """The name of the current cluster that was stopped, if no other one has been used since, or else ""."""
    return _stopped[0] if _stopped else ""
