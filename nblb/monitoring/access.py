"""Who looks at the Monitor, and what a viewer may do: the only place where a role is checked before a control acts."""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("viewer", "user", "admin")
#: The lowest role that may do it; a user may act on tasks of their own only.
NEEDS = {
    "cancel": "user",
    "retry": "user",
    "priority": "user",
    "forget": "user",
    "arguments": "user",
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
    """A person at a browser: a name and a role."""

    name: str
    role: str = "admin"


def local_viewer(name: str) -> Viewer:
    """Return the viewer of a Monitor without logins: the account that runs the cluster, which may do everything."""
    return Viewer(name, "admin")


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
    if ROLES.index(viewer.role) < ROLES.index(needs):
        return f"{viewer.name} has the role {viewer.role}; this needs the role {needs}"
    if viewer.role == "user" and owner and owner != viewer.name:
        return f"this belongs to {owner}, and {viewer.name} has the role user"
    return ""
