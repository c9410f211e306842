"""The roles of people at the Monitor: the account that runs it, the keys of the cluster, and nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable

from nblb.access.key_file import FOLDER, KEYS, KeyFile
from nblb.access.key_store import Party, Role
from nblb.access.monitor_token import MonitorRole
from nblb.errors import NblbError
from nblb.launch.monitor_links import owner_of
from nblb.monitoring.access import Viewer
from nblb.parameters import Parameters

PEOPLE: tuple[Role, ...] = ("user", "viewer", "admin")


class People:
    """The names that may come to one Monitor.

    Parameters
    ----------
    parameters
        Returns the parameters of the cluster that the pages show now.
    """

    def __init__(self, parameters: Callable[[], Parameters]) -> None:
        self._parameters = parameters
        self._file: KeyFile | None = None

    def owner(self) -> Viewer:
        """Return the viewer for the account that runs the Monitor."""
        name, role = owner_of(self._parameters())
        return Viewer(name, role, is_owner=True)

    def named(self, name: str) -> Viewer:
        """Return the viewer for a name that a login has proved: its role is that of its key, else it only looks."""
        owner = self.owner()
        if name == owner.name:
            return owner
        valid = [party for party in self._keys(name) if _is_valid(party)]
        found: MonitorRole = "viewer"
        for role in ("user", "admin"):
            if any(party.role == role for party in valid):
                found = role
        return Viewer(name, found)

    def is_revoked(self, name: str) -> bool:
        """Return True for somebody whose keys all have been revoked or have expired."""
        keys = self._keys(name)
        return bool(keys) and not any(map(_is_valid, keys))

    def _keys(self, name: str) -> list[Party]:
        folder = self._parameters().state_dir
        try:
            if not (folder / FOLDER / KEYS).exists():
                return []
            if self._file is None or self._file.folder != folder / FOLDER:
                self._file = KeyFile(folder)
            self._file.refresh()
        except (NblbError, OSError):
            return []
        return [party for party in self._file.store.parties(PEOPLE) if party.name == name]


def _is_valid(party: Party) -> bool:
    return not party.revoked and not (party.until and time.time() >= party.until)
