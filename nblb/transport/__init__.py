"""The sockets between a core and its clients and hubs, so that nothing else knows of any.

The core has `Doors`, every other party a line: LocalLine on the core's own computer, Line over ZeroMQ elsewhere, and
`dial` knows which. None of them ever blocks on a peer, drops a message in silence, or lets an exception out because
of what a peer sent. Parties are known by opaque addresses such as 'hub:3f…'.

    clients ── line ──► clients' door ─┐
    hubs ───── line ──► hubs' door ────┼─ Doors: receive() ─► the core's loop ─► send()
    JSON ───── REQ ───► any door ──────┘

Import from its modules: who dials on one computer then never loads ZeroMQ.
"""
