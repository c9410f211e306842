"""Changes of the keys of a core: the actions of `nblb invite`, and of `nblb users` and `nblb hubs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from nblb.access.join_line import written
from nblb.access.key_store import ROLES, Party, Role
from nblb.broker.access.gate import Gate
from nblb.broker.access.limit_changes import LIMITED, LimitChanges, limits_row
from nblb.errors import NblbError
from nblb.protocol.commands import Command
from nblb.protocol.messages import Administer
from nblb.transport.curve.addresses import reachable_name
from nblb.transport.curve.keys import new_key_pair, raw

INVITATION_S = 3600.0
LONGEST_S = 366 * 86400.0
PEOPLE: tuple[Role, ...] = ("user", "viewer", "admin")
HUBS: tuple[Role, ...] = ("hub",)


class KeyChanges:
    """Performs the actions for one gate; a wrong one raises NblbError."""

    def __init__(self, gate: Gate, limits: LimitChanges) -> None:
        self._gate, self._limits = gate, limits
        self._actions: dict[str, Callable[[str, Mapping[str, Any]], Any]] = {
            "invite": self._invite,
            "parties": self._parties,
            "revoke": self._revoke,
            "set": self._set,
        }

    def perform(self, user: str, message: Administer, _now: float) -> tuple[Any, list[Command]]:
        """Perform an action for this user; return the value of its answer, and commands."""
        action = self._actions.get(message.action)
        if action is None:
            raise NblbError(f"there is no action {message.action[:40]!r}; there are {', '.join(self._actions)}")
        value = action(user, message.about)
        if message.action != "parties":
            said = {key: value for key, value in message.about.items() if isinstance(value, (str, int, float))}
            self._gate.audit.note(f"admin {message.action}", by=user, **{f"of_{key}": v for key, v in said.items()})
        self._gate.recheck()
        return value, []

    def _invite(self, _user: str, about: Mapping[str, Any]) -> dict[str, Any]:
        gate, lives_s = self._gate, _seconds(about, "lives_s", INVITATION_S)
        pair = new_key_pair()
        name, role = _text(about, "name"), _role(about)
        invitation = gate.file.store.invite(pair.public, name, role, time.time(), lives_s)
        gate.file.save()
        host = str(about.get("host") or "") or reachable_name(gate.ip)
        clients, _ = gate.ports()
        line = written(host, clients, gate.parameters.name, raw(gate.guard.pair.public), raw(pair.secret.reveal()))
        return {"line": line, "name": name, "role": role, "until": invitation.until}

    def _parties(self, _user: str, about: Mapping[str, Any]) -> list[dict[str, Any]]:
        if about.get("of") == "groups":
            return self._limits.rows(about)
        roles, gate = _roles(about), self._gate
        connected: dict[str, int] = {}
        for peer in gate.peers.values():
            connected[peer.key] = connected.get(peer.key, 0) + 1
        now = time.time()
        rows: list[dict[str, Any]] = [
            {
                "name": party.name,
                "role": party.role,
                "state": _state(party, now),
                "connected": connected.get(party.key, 0),
                "until": party.until,
                "added_at": party.added_at,
                "key": party.key,
                **(limits_row(self._limits.of(party.name)) if party.role in PEOPLE else {}),
            }
            for party in gate.file.store.parties(roles)
        ]
        rows += [
            {"name": i.name, "role": i.role, "state": "invited", "connected": 0, "until": i.until, "key": ""}
            for i in gate.file.store.invitations(now)
            if i.role in roles
        ]
        if roles is PEOPLE:  # the account that owns the core, and others without a key
            named = {row["name"] for row in rows}
            rows += [{**row, "connected": 0, "key": ""} for row in self._limits.rows({}) if row["name"] not in named]
        return rows

    def _revoke(self, user: str, about: Mapping[str, Any]) -> int:
        reason = str(about.get("reason") or "") or f"by {user}"
        revoked = self._gate.file.store.revoke(_text(about, "name"), _roles(about), reason)
        self._gate.file.save()
        return len(revoked)

    def _set(self, user: str, about: Mapping[str, Any]) -> int | dict[str, Any]:
        has_limits = any(about.get(key) is not None for key in LIMITED)
        if not has_limits or about.get("role") or about.get("lives_s") is not None:
            changed = self._set_keys(about)
            if not has_limits:
                return changed
        return self._limits.change(user, about)

    def _set_keys(self, about: Mapping[str, Any]) -> int:
        role = _role(about) if about.get("role") else None
        lives_s = about.get("lives_s")
        until = None if lives_s is None else 0.0 if not lives_s else time.time() + _seconds(about, "lives_s", 0.0)
        if role is None and until is None:
            raise NblbError(f"nothing to set was given; give a role, an end, or one of {', '.join(LIMITED)}")
        changed = self._gate.file.store.change(_text(about, "name"), PEOPLE, role, until)
        self._gate.file.save()
        return len(changed)


def _state(party: Party, now: float) -> str:
    if party.revoked:
        return "revoked"
    return "expired" if party.until and now >= party.until else "valid"


def _text(about: Mapping[str, Any], key: str) -> str:
    value = about.get(key)
    if not isinstance(value, str) or not value:
        raise NblbError(f"{key!r} is missing; it must be a text")
    return value


def _role(about: Mapping[str, Any]) -> Role:
    role = about.get("role", "user")
    if role not in ROLES:
        raise NblbError(f"the role is {str(role)[:40]!r}; it must be one of {', '.join(ROLES)}")
    found: Role = role
    return found


def _roles(about: Mapping[str, Any]) -> tuple[Role, ...]:
    return HUBS if about.get("of") == "hubs" else PEOPLE


def _seconds(about: Mapping[str, Any], key: str, default: float) -> float:
    value = about.get(key, default)
    if not isinstance(value, (int, float)) or not 0 < value <= LONGEST_S:
        raise NblbError(f"{key!r} is {str(value)[:40]!r}; it must be a number of seconds, a year at most")
    return float(value)
