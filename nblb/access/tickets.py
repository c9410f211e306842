"""Tickets with which a party may read one file through the bulk door; pure.

The core signs the name of the file together with the party's public key, so that the bulk door, which knows no tasks,
can check a ticket by itself, and a ticket is of no use to anybody else.
"""

from __future__ import annotations

import hashlib
import hmac

DIGITS = 32


def ticket(secret: bytes, key: str, name: str) -> str:
    """Return the ticket for the owner of this public key to read the file of this name."""
    return hmac.new(secret, f"{key}\n{name}".encode(), hashlib.blake2b).hexdigest()[:DIGITS]


def is_valid(secret: bytes, key: str, name: str, said: str) -> bool:
    """Return True if the core has given this ticket to the owner of the key."""
    return hmac.compare_digest(ticket(secret, key, name), said)
