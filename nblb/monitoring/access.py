"""Who looks at the Monitor, and what a viewer may do: the only place where a role is checked before a control acts.

The core checks it again: an order of anybody but the account that runs the Monitor names the viewer and the role.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

ROLES = ("viewer", "user", "admin")
#: The lowest role that may do it; a user may act on tasks of their own only.
NEEDS = {
    "cancel": "user",
    "retry": "user",
    "priority": "user",
    "forget": "user",
    "scale": "admin",
    "drain": "admin",
    "restart": "admin",
    "remove": "admin",
    "start": "admin",
    "stop": "admin",
    "save": "admin",
}


@dataclass(frozen=True)
class Viewer:
    """A person at a browser.

    Parameters
    ----------
    name
        The user of tasks that are this person's.
    role
        One of ROLES.
    is_owner
        True for the account that runs the Monitor, whose orders the core takes as they are.
    until
        The end of the login, by the wall clock.
    """

    name: str
    role: str = "admin"
    is_owner: bool = False
    until: float = float("inf")


def local_viewer(name: str) -> Viewer:
    """Return the viewer for the account that runs the cluster, which may do everything."""
    return Viewer(name, "admin", is_owner=True)


def refusal(viewer: Viewer, action: str, owner: str = "") -> str:
    """Return why this viewer may not do it, in a sentence; "" if the viewer may.

    Parameters
    ----------
    viewer
        The person at the browser.
    action
        A key of NEEDS.
    owner
        The user whose task or job it is about; "" where it belongs to nobody.
    """
    needs = NEEDS[action]
    if viewer.role not in ROLES:
        return f"{viewer.name} has the unknown role {viewer.role!r}"
    if ended := login_end(viewer):
        return ended
    if ROLES.index(viewer.role) < ROLES.index(needs):
        return f"{viewer.name} has the role {viewer.role}; this needs the role {needs}"
    if viewer.role == "user" and owner and owner != viewer.name:
        return f"this belongs to {owner}, and {viewer.name} has the role user"
    return ""


def login_end(viewer: Viewer) -> str:
    """Return the sentence about a login that has ended; "" while it lasts."""
    return f"the login of {viewer.name} has ended; open a new link" if time.time() >= viewer.until else ""
