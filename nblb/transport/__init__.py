"""The sockets between a core and its clients and hubs; no other package uses sockets for them.

The core has `Doors`. Every other party has a line, which `dial` chooses: LocalLine on the core's own computer, Line
over ZeroMQ elsewhere. None of them ever blocks on a peer, drops a message silently, or raises because of what a peer
sent. Parties have opaque addresses such as 'hub:3f…'.

    clients ── line ──► clients' door ─┐
    hubs ───── line ──► hubs' door ────┼─ Doors: receive() ─► the core's loop ─► send()
    JSON ───── REQ ───► any door ──────┘

Import from the modules, so that a party on the core's computer never loads ZeroMQ.
"""
