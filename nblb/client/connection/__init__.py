"""The connection of a client to the core: its I/O thread, and waiting in the calling thread."""
