"""What the core answers, as objects: `hub.name` and `hub["name"]` are the same."""

from __future__ import annotations

import contextlib
import difflib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nblb.client import front_end
from nblb.client.snapshots import ENDED
from nblb.errors import LoadBalancerUnreachable
from nblb.protocol.messages import Ask

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.connection.ports import Pending

AGAIN_S = 0.8  # between two questions of a list that is watched


class Row(dict[str, Any]):
    """A dict whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            close = difflib.get_close_matches(name, self, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(self)}"
            raise AttributeError(f"this {type(self).__name__} has no {name!r}; {hint}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(f'{key}={self[key]!r}' for key in self._shown() if key in self)}>"

    def _shown(self) -> list[str]:
        return list(self)


class HubInfo(Row):
    def _shown(self) -> list[str]:
        return ["name", "host", "pid", "workers", "busy", "state"]


class WorkerInfo(Row):
    def _shown(self) -> list[str]:
        return ["worker", "hub", "state", "task_name", "progress", "user"]


class UserInfo(Row):
    def _shown(self) -> list[str]:
        return ["user", "queued", "running", "done", "failed"]


class JobInfo(Row):
    def _shown(self) -> list[str]:
        return ["name", "state", "items", "counts", "user"]


class JobList(list[JobInfo]):
    """The jobs of a cluster as they were; in a notebook it shows itself as a card that follows them."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # so that a card can be kept for it

    def __init__(self, rows: Iterable[JobInfo] = (), cluster: Cluster | None = None, of: str | None = None) -> None:
        super().__init__(rows)
        self.cluster: Any = cluster
        self.user = cluster.user if cluster is not None else ""
        self.place = cluster.name if cluster is not None else ""
        self._about = {} if of is None else {"user": of}
        self._latest: list[JobInfo] = list(self)
        self._asked_at = time.monotonic()

    def latest(self) -> list[JobInfo]:
        """The rows that were told last; they are asked for anew in the background."""
        now = time.monotonic()
        if self.cluster is not None and self.cluster.connected and now - self._asked_at > AGAIN_S:
            self._asked_at = now
            connection = self.cluster.connection
            ask = Ask(request=connection.request(), topic="jobs", about=self._about)
            with contextlib.suppress(LoadBalancerUnreachable):
                connection.question(ask, self._told)
        return list(self._latest)

    def _told(self, answer: Pending) -> None:
        if answer.value is not None:
            self._latest = [JobInfo(row) for row in answer.value]

    def __repr__(self) -> str:
        if not self:
            return "<no jobs>"
        return "\n".join(
            f"{row.name}: {row.state}, {_ended(row)} of {row['items']:,} ended ({row.user})" for row in self
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return front_end.bundle("jobs", self)


def _ended(row: JobInfo) -> str:
    return f"{sum(number for state, number in row.counts.items() if state in ENDED):,}"


class CoreInfo(Row):
    """The core's process."""


class ClusterStatus(Row):
    """How a cluster is: `status.core.pid`, `.addresses`, `.counts`, …"""

    def __init__(self, told: dict[str, Any]) -> None:
        core = {"id": told.get("core"), **{key: told.get(key) for key in ("pid", "epoch", "host", "started_at")}}
        super().__init__({**told, "core": CoreInfo(core)})

    def _shown(self) -> list[str]:
        return ["name", "core", "hubs", "workers", "busy", "queued", "running"]
