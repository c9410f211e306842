"""Hubs as jobs of a batch system: when to submit, ask and cancel (launcher), and the process that does it (role)."""
