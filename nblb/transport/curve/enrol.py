"""Joining a cluster: a party makes its own key pair, and enrols the public half with an invitation."""

from __future__ import annotations

import os
from time import monotonic
from typing import Any

from nblb.access.connection_file import ConnectionFile, path_of, read
from nblb.access.join_line import JoinLine, parsed
from nblb.access.secret import Secret
from nblb.errors import LoadBalancerUnreachable, NblbError, NotAllowed
from nblb.protocol.messages import Enrol, Enrolled, Message, Refused, client_to_core, core_to_client
from nblb.transport.curve.keys import as_text, new_key_pair, public_half
from nblb.transport.curve.line import CurveLine

PATIENCE_S = 10.0


def invitation(line: str) -> JoinLine:
    """Return the invitation that a line has; raise NblbError if it is none."""
    host, port, cluster, server_key, secret = parsed(line)
    return JoinLine(host, port, cluster, as_text(server_key), Secret(as_text(secret)))


def join(line: str, name: str = "", timeout_s: float = PATIENCE_S) -> ConnectionFile:
    """Join the cluster that a line of `nblb invite` is for, and write the connection file.

    Parameters
    ----------
    line
        The line.
    name
        The name under which this account finds the cluster; by default the cluster's own.
    timeout_s
        How long the core may take to answer.

    Returns
    -------
    ConnectionFile
        The file that was written.

    Raises
    ------
    NblbError
        The line is none, or another cluster has this name here.
    NotAllowed
        The core refuses the invitation: it was used, has expired, or the core has other keys.
    LoadBalancerUnreachable
        No core answers there.
    """
    asked = invitation(line)
    _check_name(name or asked.cluster, asked)
    joined = enrolled(asked, timeout_s)
    return joined.save(path_of(name or joined.cluster, joined.role))


def enrolled(asked: JoinLine, timeout_s: float = PATIENCE_S) -> ConnectionFile:
    """Make a key pair, enrol it with an invitation, and return what a connection file is to contain."""
    pair = new_key_pair()
    with_invitation = ConnectionFile(
        cluster=asked.cluster,
        role="viewer",
        name="",
        host=asked.host,
        clients=asked.port,
        hubs=0,
        server_key=asked.server_key,
        public_key=public_half(asked.secret),
        secret_key=asked.secret,
    )
    answer = _asked(CurveLine(with_invitation, client_to_core, core_to_client), Enrol(key=pair.public), timeout_s)
    role: Any = answer.role
    return ConnectionFile(
        cluster=answer.cluster,
        core=answer.core,
        role=role,
        name=answer.name,
        host=asked.host,
        clients=answer.clients or asked.port,
        hubs=answer.hubs,
        server_key=asked.server_key,
        public_key=pair.public,
        secret_key=pair.secret,
    )


def _check_name(name: str, asked: JoinLine) -> None:
    """Refuse a name under which this account has joined another cluster, before the invitation is used up."""
    if not name or name.startswith(".") or os.sep in name:
        raise NblbError(f"{name!r} cannot be the name of a cluster here; give another with --name")
    for role in ("", "hub"):
        path = path_of(name, role)
        if path.exists() and read(path).server_key != asked.server_key:
            raise NblbError(
                f"this account has joined another cluster by the name {name!r} ({path}); choose another name for this "
                "one with --name"
            )


def _asked(line: CurveLine, message: Message, timeout_s: float) -> Enrolled:
    until = monotonic() + timeout_s
    try:
        line.send([message])
        while (left_s := until - monotonic()) > 0:
            for said in line.receive(left_s):
                if isinstance(said, Enrolled):
                    return said
                if isinstance(said, Refused):
                    raise NotAllowed(_in_words(said.reason, line))
    finally:
        line.close()
    raise LoadBalancerUnreachable(
        f"no core answers at {line.connection_file.address().partition('#')[0]} within {timeout_s:g} s; is it the "
        "address at which this computer reaches it, and does a firewall let the port through?"
    )


def _in_words(reason: str, line: CurveLine) -> str:
    if "does not know the key" in reason:
        return (
            "this invitation is not known to the core (any more): it was used already, was withdrawn, or the core has "
            "new keys; ask for a new one"
        )
    return reason.replace(f"{line.connection_file.path} says", "the invitation says")
