"""Messages about who may connect: a new party enrols its key, an administrator changes the keys."""

from __future__ import annotations

from typing import Any

from nblb.protocol.messages.vocabulary import Message


class Enrol(Message):
    """The only message on a connection with an invitation's one-time key: use this public key for me from here on.

    Answer: Enrolled or Refused.
    """

    key: str  # the public half, in Z85


class Enrolled(Message):
    """The core knows the key now, and the invitation is used up."""

    cluster: str
    core: str  # uuid of the cluster
    name: str  # of the party
    role: str
    clients: int = 0  # ports of the core's doors
    hubs: int = 0


class Administer(Message):
    """Change who may connect, with an action of broker/access/key_changes.py. Answer: Answer."""

    request: int
    action: str
    about: dict[str, Any] = {}
