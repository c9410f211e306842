"""Displayed outputs that any thread can update in place.

A background thread has no cell: what it displays appears in the cell that the kernel is running (ipykernel 7), or it
redirects the main thread's output (ipykernel 6, if the parent is set). An update by display id needs no cell: the
front-end finds the output. The update is sent as part of the latest request, the only one that nbclient reads.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from nblb.notebook.kernel.environment import kernel, shell


@dataclass(frozen=True)
class Place:
    """The location of a displayed output."""

    display_id: str
    metadata: dict[str, Any] = field(default_factory=dict)  # mime type -> what the front-end needs to draw it

    @staticmethod
    def publish(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> Place:
        """Displays `data` in the cell that runs now."""
        from IPython.display import publish_display_data

        display_id = f"nblb-{uuid.uuid4().hex[:12]}"
        publish_display_data(data, metadata, transient={"display_id": display_id})
        return Place(display_id, metadata or {})

    def update(self, data: dict[str, Any]) -> None:
        """Replaces the output; no error if the user has removed it."""
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
