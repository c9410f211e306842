"""The connection of a client to the core: its I/O thread, and the ways callers wait for it."""
