"""The interfaces of a Cluster: to what starts and stops its processes, and to the front-ends that show it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


class Launcher(Protocol):
    """The part of a cluster that starts and stops processes; nblb.launch provides one."""

    def stop(self) -> None:
        """Stop the cluster's processes on this computer."""

    def leave(self) -> None:
        """Stop the processes that this process started; called at the end of a `with`."""

    def add_hub(self, **options: Any) -> Any: ...
    def monitor_url(self) -> str: ...
    def monitor_link(self, **options: Any) -> str: ...
    def dashboard(self) -> Any: ...


class ClusterPort:
    """The methods of a Cluster that front-ends call, like those of a TaskFuture (futures/future_port.py)."""

    __slots__ = ()

    def add_listener(self, cluster: Cluster, listener: Callable[[], Any]) -> None:
        """Call `listener()`, on another thread, when the core becomes reachable or unreachable."""
        cluster._connection.watchers.append(listener)

    def remove_listener(self, cluster: Cluster, listener: Callable[[], Any]) -> None:
        with contextlib.suppress(ValueError):
            cluster._connection.watchers.remove(listener)


def owners_link(launcher: Launcher | None) -> str:
    """Return the Monitor's address with the token of this account, where the launcher makes one; "" for none."""
    link: Callable[[], str] | None = getattr(launcher, "owners_link", None)
    return link() if link is not None else launcher.monitor_url() if launcher is not None else ""
