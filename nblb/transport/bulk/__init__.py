"""Large buffers between computers: files in chunks over connections of their own, beside the messages.

    party: RemoteLine ── messages ───────────────────────► the core's doors
           BulkLine ──── GET, PUT: chunks with credit ───► BulkDoor, a process of its own
           Mirror: a folder like the core's, in which the party's workers find what has come

One frame for a large buffer would hold up the heartbeats behind it; a chunk takes a millisecond. A message that names
a file is sent when the file is up, and handled when it has come (held_back.py).
"""
