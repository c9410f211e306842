"""Links to the Monitor with a signed token: of the account that runs the cluster, and of others who are to see it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from nblb.access import connection_file
from nblb.access.monitor_key import monitor_key
from nblb.access.monitor_token import MONITOR_ROLES, MonitorRole, MonitorToken, signed
from nblb.errors import NblbError
from nblb.host import account
from nblb.launch.presence import present
from nblb.system.state_mark import claim

if TYPE_CHECKING:
    from nblb.parameters import Parameters

DAY_S = 86400.0
LINK_S = 3600.0  # of a link for somebody else
LOGIN_S = 12 * 3600.0  # how long a browser that has opened one stays logged in
OWNERS_LOGIN_S = 30 * DAY_S
LONGEST_S = 366 * DAY_S


def monitor_url(parameters: Parameters) -> str:
    """The address of this cluster's Monitor on this machine; "" while it does not answer yet."""
    there = present(parameters.runtime_dir, "monitor")
    return str(there[0].about.get("url", "")) if there else ""


def owner_of(parameters: Parameters) -> tuple[str, MonitorRole]:
    """The name and role of the account that runs a Monitor with these parameters, as the core knows it."""
    if not parameters.connection:
        return account(), "admin"
    joined = connection_file.read(Path(parameters.connection))
    return joined.name, next((role for role in MONITOR_ROLES if role == joined.role), "viewer")


def owners_token(key: bytes, parameters: Parameters) -> str:
    """The token of the account's own links: the same all day, and valid until the end of the next one."""
    name, role = owner_of(parameters)
    until = (time.time() // DAY_S + 2) * DAY_S
    return signed(key, MonitorToken("link", name, role, until, OWNERS_LOGIN_S))


def with_token(url: str, token: str) -> str:
    """The address with the token, which the Monitor takes out again at the first visit."""
    return f"{url}?token={quote(token)}"


def owners_link(parameters: Parameters) -> str:
    """The link with which the account that runs the cluster opens its Monitor; "" while none answers."""
    url = monitor_url(parameters)
    return with_token(url, owners_token(key_of(parameters), parameters)) if url else ""


def link_for(
    parameters: Parameters, name: str = "", role: str = "viewer", expires_s: float = LINK_S, login_s: float = LOGIN_S
) -> str:
    """A link for somebody else.

    Raises
    ------
    NblbError
        No Monitor answers, or the name, the role or a time cannot be; the message says which.
    """
    known: MonitorRole | None = next((one for one in MONITOR_ROLES if one == role), None)
    if known is None:
        raise NblbError(f"the role is {str(role)[:40]!r}; it must be one of {', '.join(MONITOR_ROLES)}")
    for what, seconds in (("expires", expires_s), ("login", login_s)):
        if not 0 < seconds <= LONGEST_S:
            raise NblbError(f"{what} is {seconds:g} s; it must be more than 0 and at most a year")
    url = monitor_url(parameters)
    if not url:
        raise NblbError("no Monitor runs for this cluster on this computer; 'nblb start' or 'nblb monitor' starts one")
    token = MonitorToken("link", name or "guest", known, time.time() + expires_s, login_s)
    return with_token(url, signed(key_of(parameters), token))


def key_of(parameters: Parameters) -> bytes:
    """The key of this cluster's Monitor."""
    return monitor_key(claim(parameters.state_dir))
