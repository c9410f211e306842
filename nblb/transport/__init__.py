"""The sockets between a core and its clients and hubs, so that nothing else knows ZeroMQ.

The core has `Doors`, every other party a `Line`. Neither ever blocks on a peer, drops a message in silence, or
lets an exception out because of what a peer sent. Parties are known by opaque addresses such as 'hub:3f…'.

    clients ── Line ──► clients' door ─┐
    hubs ───── Line ──► hubs' door ────┼─ Doors: receive() ─► the core's loop ─► send()
    JSON ───── REQ ───► any door ──────┘
"""

from nblb.transport.doors import Arrived, Doors
from nblb.transport.line import Line

__all__ = ["Arrived", "Doors", "Line"]
