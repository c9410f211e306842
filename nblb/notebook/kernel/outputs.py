"""A picture in a cell's output that can be drawn anew later, from any thread, into the cell where it stands.

A thread of its own has no cell, and what it displays lands where the kernel happens to be (ipykernel 7) or moves the
main thread's output (ipykernel 6, if one sets its parent). An update by display id needs no cell: front-ends find it
wherever it stands. It is sent straight to them as part of the latest request, the only one that nbclient listens to.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from nblb.notebook.kernel.environment import kernel, shell


@dataclass(frozen=True)
class Place:
    """Where a picture stands."""

    display_id: str
    metadata: dict[str, Any] = field(default_factory=dict)  # kind of data -> what the front-end must know to draw it

    @staticmethod
    def publish(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> Place:
        """Shows the picture in the cell that runs now."""
        from IPython.display import publish_display_data

        display_id = f"nblb-{uuid.uuid4().hex[:12]}"
        publish_display_data(data, metadata, transient={"display_id": display_id})
        return Place(display_id, metadata or {})

    def update(self, data: dict[str, Any]) -> None:
        """Draws it anew; a picture that has been removed meanwhile is nobody's fault."""
        publisher, transient = getattr(shell(), "display_pub", None), {"display_id": self.display_id}
        session, socket = getattr(publisher, "session", None), getattr(publisher, "pub_socket", None)
        parent = getattr(kernel(), "get_parent", None)
        metadata = {kind: about for kind, about in self.metadata.items() if kind in data}
        if session is None or socket is None or parent is None:
            from IPython.display import publish_display_data

            publish_display_data(data, metadata, transient=transient, update=True)
            return
        content = {"data": data, "metadata": metadata, "transient": transient}
        topic = getattr(publisher, "topic", b"display_data")
        session.send(socket, "update_display_data", content, parent=parent("shell"), ident=topic)
