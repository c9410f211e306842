"""A connection of the Monitor to the core: questions over one lasting line, orders each over a line of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.launch import connect, one_shot

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


class CoreLink:
    """A Source for the Poller."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._cluster: Cluster | None = None

    def ask(self, topic: str, about: dict[str, Any] | None = None) -> Any:
        if self._cluster is None:
            self._cluster = connect(self._parameters)
        return self._cluster.connection.ask(topic, about or {})

    def order(self, message: Any) -> Any:
        address, _ = one_shot.find(self._parameters)
        return one_shot.order(address, message)

    def order_for(self, message: Any, name: str, role: str) -> Any:
        address, _ = one_shot.find(self._parameters)
        return one_shot.order(address, message, name, role)

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
