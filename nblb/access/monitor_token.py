"""Signed tokens of the Monitor: a name, a role and an end, which nobody without the Monitor's key can make; pure.

A *link* is part of an address and opens the page; a *login* is what a browser keeps in a cookie afterwards; a *page*
tells a page's own code who has opened it. A token of one kind is of no use as another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Literal, TypeAlias, get_args

import msgspec

from nblb.errors import NblbError, NotAllowed

Kind: TypeAlias = Literal["link", "login", "page"]
MonitorRole: TypeAlias = Literal["viewer", "user", "admin"]
MONITOR_ROLES: tuple[MonitorRole, ...] = get_args(MonitorRole)
LONGEST = 2000  # characters of a token
LONGEST_NAME = 64


class MonitorToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token says.

    Parameters
    ----------
    kind
        What it is good for.
    name
        The person, as the user of tasks.
    role
        What the person may do.
    until
        Its end, by the wall clock.
    login_s
        Of a link: how long the browser that opens it stays logged in.
    """

    kind: Kind
    name: str
    role: MonitorRole
    until: float
    login_s: float = 0.0


def signed(key: bytes, token: MonitorToken) -> str:
    """Return the token as text for an address, a cookie or a header.

    Raises
    ------
    NblbError
        The name cannot be a person's.
    """
    if not token.name or len(token.name) > LONGEST_NAME or not token.name.isprintable():
        raise NblbError(f"the name is {token.name[:80]!r}; it must be 1 to {LONGEST_NAME} printable characters")
    content = _text(msgspec.json.encode(token))
    return f"{content}.{_signature(key, content)}"


def opened(key: bytes, kind: Kind, text: str, now: float) -> MonitorToken:
    """Return what a token says.

    Raises
    ------
    NotAllowed
        It is of another kind or key, was changed, or has expired; the message says which.
    """
    content, _, signature = text.partition(".")
    if len(text) > LONGEST or not hmac.compare_digest(_signature(key, content).encode(), signature.encode()):
        raise NotAllowed("This link is not of this Monitor, or was cut; ask for a new one.")
    try:
        token = msgspec.json.decode(base64.urlsafe_b64decode(content + "=="), type=MonitorToken)
    except (msgspec.MsgspecError, binascii.Error):
        raise NotAllowed("This link is of another version of nblb; ask for a new one.") from None
    if token.kind != kind:
        raise NotAllowed("This token is not a link; ask for a new link.")
    if now >= token.until:
        raise NotAllowed("This link has expired; ask for a new one.")
    return token


def _signature(key: bytes, content: str) -> str:
    return _text(hmac.new(key, b"nblb monitor\n" + content.encode("utf-8", "replace"), hashlib.sha256).digest())


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
