"""Shares and limits of users and groups: `nblb users set` and `nblb groups set`, kept in the key store's file.

A core without keys has the same file for them alone. A change is on the disk before the scheduler obeys it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nblb.access.audit_log import AuditLog
from nblb.access.key_file import FOLDER, KEYS, KeyFile
from nblb.access.key_store import Party, Role
from nblb.access.limits import QUOTAS, LimitedKind, Limits, changed_limits, checked_limited_name
from nblb.broker.access.gate import Gate
from nblb.errors import NblbError
from nblb.protocol.commands import Command
from nblb.protocol.messages import Administer
from nblb.scheduling.scheduler import Scheduler

LIMITED = ("share", "group", *QUOTAS)
PEOPLE: tuple[Role, ...] = ("user", "viewer", "admin")
NO_KEYS = "this core listens on this computer only, so it has no keys; start it with 'nblb start --listen'"


class LimitChanges:
    """The limits of one core; `gate` is None if it listens on its own computer only."""

    def __init__(self, state_dir: Path, scheduler: Scheduler, gate: Gate | None) -> None:
        self._state_dir, self._scheduler, self._gate = state_dir, scheduler, gate
        self._file: KeyFile | None = gate.file if gate is not None else None
        self._audit: AuditLog | None = gate.audit if gate is not None else None
        if self._file is None and (state_dir / FOLDER / KEYS).exists():
            self._file = KeyFile(state_dir)
        if self._file is not None and self._file.store.limits():
            scheduler.limit(self._file.store.limits())

    def perform(self, user: str, message: Administer, _now: float) -> tuple[Any, list[Command]]:
        """Perform an action on a core without keys; return the value of its answer, and no commands."""
        if message.action == "set" and not any(message.about.get(key) is not None for key in ("role", "lives_s")):
            return self.change(user, message.about), []
        if message.action == "parties" and message.about.get("of") != "hubs":
            return self.rows(message.about), []
        raise NblbError(NO_KEYS)

    def change(self, user: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """Change the share or the limits of a user or of a group, on behalf of `user`; return them."""
        of: LimitedKind = "group" if about.get("of") == "groups" else "user"
        name = checked_limited_name(about.get("name"))
        if not any(about.get(key) is not None for key in LIMITED):
            raise NblbError(f"nothing to set was given; give one of {', '.join(LIMITED)}")
        file = self._opened()
        old = file.store.limits_of(name, of)
        new = changed_limits(old, about)
        file.store.limit(new)
        try:
            file.save()
        except OSError:
            file.store.limit(old)
            raise
        self._scheduler.limit(file.store.limits())
        changed = {key: getattr(new, key) for key in LIMITED if about.get(key) is not None}
        if self._audit is not None:
            self._audit.note("admin limit", by=user, of=of, name=name, **{f"of_{key}": v for key, v in changed.items()})
        return {**_row(new), "known": self._is_known(name, of)}

    def rows(self, about: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the limits of all groups, or of all users who have sent tasks or have limits."""
        share, limits = self._scheduler.state.share, self._limits()
        if about.get("of") == "groups":
            names = dict.fromkeys([each.group for each in limits if each.group])
            names |= dict.fromkeys([each.name for each in limits if each.of == "group"])
            return [_row(self.of(name, "group")) | {"users": self.members(name)} for name in names]
        names = dict.fromkeys([*share.users, *(each.name for each in limits if each.of == "user")])
        return [{"role": "", "state": "", "until": 0.0, **_row(self.of(name))} for name in names]

    def members(self, group: str) -> list[str]:
        """Return the names of the users in a group."""
        return sorted(each.name for each in self._limits() if each.group == group)

    def of(self, name: str, of: LimitedKind = "user") -> Limits:
        """Return the share and the limits of a user or of a group."""
        return self._file.store.limits_of(name, of) if self._file is not None else Limits(name, of)

    def with_keys(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answer about users with the role and the end of their keys, and with those who only have a key."""
        by_name = {row["user"]: row for row in rows}
        for limits in self._limits():
            if limits.of == "user" and limits.name not in by_name:
                by_name[limits.name] = {"user": limits.name, "name": limits.name, **limits_row(limits)}
        for party in self._gate.file.store.parties(PEOPLE) if self._gate is not None else ():
            if not party.revoked:
                row = by_name.setdefault(
                    party.name, {"user": party.name, "name": party.name, **limits_row(self.of(party.name))}
                )
                row["role"], row["expires"] = party.role, _later(row, party)
        return list(by_name.values())

    def close(self) -> None:
        """Close the audit log, if the gate does not own it."""
        if self._gate is None and self._audit is not None:
            self._audit.close()

    def _limits(self) -> list[Limits]:
        return self._file.store.limits() if self._file is not None else []

    def _opened(self) -> KeyFile:
        """Return the file; a core without keys makes it now."""
        if self._file is None:
            self._file = KeyFile(self._state_dir)
        if self._audit is None:
            self._audit = AuditLog(self._file.folder)
        return self._file

    def _is_known(self, name: str, of: LimitedKind) -> bool:
        """Return whether there is such a user, or a user of such a group, so far."""
        if of == "group":
            return bool(self.members(name))
        has_key = self._gate is not None and any(p.name == name for p in self._gate.file.store.parties(PEOPLE))
        return has_key or name in self._scheduler.state.share.users


def limits_row(limits: Limits) -> dict[str, Any]:
    """Return a share and limits as a query answers them."""
    return {"share": limits.share, "group": limits.group, **{key: getattr(limits, key) for key in QUOTAS}}


def _row(limits: Limits) -> dict[str, Any]:
    return {"name": limits.name, **limits_row(limits)}


def _later(row: Mapping[str, Any], party: Party) -> float:
    """Return when the last of the keys of a user ends; 0.0 for never."""
    if "expires" not in row:
        return party.until
    return 0.0 if 0.0 in (row["expires"], party.until) else max(row["expires"], party.until)
