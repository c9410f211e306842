"""The keys that a core knows: who they belong to, their roles, and one-time invitations; pure, time is an argument.

A party is known by the public half of its key pair alone. An invitation is itself a key pair, whose secret half is in
the line that `nblb invite` prints: the core keeps the public half, lets a connection with it in once, and puts the
party's own public key in its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

import msgspec

from nblb.access.limits import MOST_LIMITED, LimitedKind, Limits
from nblb.errors import NblbError

Role: TypeAlias = Literal["user", "hub", "viewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
FORMAT = 1
MOST_NAMES = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # 32 bytes in Z85


class Party(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key of a person or of a hub's computer; `revoked` is the reason, "" while the key is valid."""

    key: str  # the public half, in Z85
    name: str
    role: Role
    added_at: float = 0.0  # wall clock
    until: float = 0.0  # wall clock; 0: it does not expire
    revoked: str = ""


class Invitation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A one-time key with which a new party may enrol its own."""

    key: str
    name: str
    role: Role
    until: float


class Keys(msgspec.Struct):
    """The contents of the key store's file."""

    version: int = FORMAT
    parties: list[Party] = []
    invitations: list[Invitation] = []
    limits: list[Limits] = []  # of users, with a key or without, and of groups


class Verdict(msgspec.Struct, frozen=True):
    """What a core may do with the owner of a key.

    `state` is "known", "invited", "refused" (a key that was known: `reason` says why it is no longer) or "unknown".
    """

    state: Literal["known", "invited", "refused", "unknown"]
    name: str = ""
    role: Role = "viewer"
    reason: str = ""


UNKNOWN = Verdict("unknown")


def key_mark(key: str) -> str:
    """Return the eight digits with which the names of files begin that the owner of this key has sent."""
    return hashlib.blake2b(key.encode(), digest_size=4).hexdigest()


def checked_key(key: str) -> str:
    """Return a public key; raise NblbError if the text is none."""
    if not _KEY.fullmatch(key):
        raise NblbError("that is no public key: it must be 40 characters of Z85.")
    return key


def checked_name(name: str) -> str:
    """Return the name of a party; raise NblbError if it cannot be one."""
    if not _NAME.fullmatch(name):
        raise NblbError(
            f"the name is {name[:80]!r}; it must be up to 64 letters, digits, '.', '_', '@' and '-', and begin with a "
            "letter or digit"
        )
    return name


class KeyStore:
    """The keys of one cluster, by key and by name."""

    def __init__(self, keys: Keys | None = None) -> None:
        self.keys = keys or Keys()
        self._by_key: dict[str, Party] = {party.key: party for party in self.keys.parties}
        self._invited: dict[str, Invitation] = {each.key: each for each in self.keys.invitations}
        self._limits: dict[tuple[LimitedKind, str], Limits] = {(each.of, each.name): each for each in self.keys.limits}

    def contents(self) -> Keys:
        """Return what the file is to contain."""
        return Keys(FORMAT, list(self._by_key.values()), list(self._invited.values()), self.limits())

    def limits(self) -> list[Limits]:
        """Return the shares and limits of users and groups that are not the default."""
        return list(self._limits.values())

    def limits_of(self, name: str, of: LimitedKind = "user") -> Limits:
        """Return the share and the limits of one user or group."""
        return self._limits.get((of, name)) or Limits(name, of)

    def limit(self, limits: Limits) -> None:
        """Give a user or a group this share and these limits; raise NblbError if there are too many already."""
        key = limits.of, limits.name
        if limits.is_default:
            self._limits.pop(key, None)
        elif key not in self._limits and len(self._limits) >= MOST_LIMITED:
            raise NblbError(f"this cluster has limits for {MOST_LIMITED:,} users and groups, the most there may be")
        else:
            self._limits[key] = limits

    def parties(self, roles: Iterable[Role] = ROLES) -> list[Party]:
        """Return the parties with these roles, in order of their names."""
        wanted = set(roles)
        return sorted((p for p in self._by_key.values() if p.role in wanted), key=lambda p: (p.name, p.added_at))

    def invitations(self, now: float) -> list[Invitation]:
        """Return the invitations that can still be used."""
        return [each for each in self._invited.values() if now < each.until]

    def verdict(self, key: str, now: float) -> Verdict:
        """Return what is to be done with a connection that has this key."""
        party = self._by_key.get(key)
        if party is not None:
            if party.revoked:
                reason = f"the key of {party.name!r} was revoked ({party.revoked}); ask for a new invitation"
                return Verdict("refused", party.name, party.role, reason)
            if party.until and now >= party.until:
                reason = f"the key of {party.name!r} has expired; ask for a new invitation"
                return Verdict("refused", party.name, party.role, reason)
            return Verdict("known", party.name, party.role)
        invited = self._invited.get(key)
        if invited is None:
            return UNKNOWN
        if now >= invited.until:
            reason = f"the invitation of {invited.name!r} has expired; ask for a new one"
            return Verdict("refused", invited.name, invited.role, reason)
        return Verdict("invited", invited.name, invited.role)

    def invite(self, key: str, name: str, role: Role, now: float, lives_s: float) -> Invitation:
        """Add an invitation; raise NblbError if the name is taken by a party of another role."""
        checked_key(key)
        self._check_role(checked_name(name), role)
        for old in [each for each in self._invited.values() if now >= each.until + 7 * 86400.0]:
            del self._invited[old.key]  # by now "unknown" says as much as "expired"
        if len(self._by_key) + len(self._invited) >= MOST_NAMES:
            raise NblbError(f"this cluster has {MOST_NAMES:,} keys and invitations, which is the most there may be")
        invitation = self._invited[key] = Invitation(key, name, role, now + lives_s)
        return invitation

    def _check_role(self, name: str, role: Role) -> None:
        other = next((p for p in self._by_key.values() if p.name == name and p.role != role and not p.revoked), None)
        if other is not None:
            raise NblbError(
                f"{name!r} is the name of a key with the role {other.role!r}; choose another name, or revoke that key"
            )

    def enrol(self, invitation: str, key: str, now: float, taken: Iterable[str] = ()) -> Party:
        """Use up an invitation: the owner of `key` is a party from here on.

        `taken` are marks (see `key_mark`) that the key must not have. Raises NblbError.
        """
        invited = self._invited.get(invitation)
        if invited is None:
            raise NblbError("this invitation was used already; ask for a new one")
        if now >= invited.until:
            raise NblbError(f"the invitation of {invited.name!r} has expired; ask for a new one")
        checked_key(key)
        marks = {key_mark(known) for known in self._by_key} | set(taken)
        if key in self._by_key or key in self._invited or key_mark(key) in marks:
            raise NblbError("this key is known already; make another")
        self._check_role(invited.name, invited.role)
        del self._invited[invitation]
        party = self._by_key[key] = Party(key, invited.name, invited.role, added_at=now)
        return party

    def named(self, name: str, roles: Iterable[Role]) -> list[Party]:
        """Return the keys of this name; raise NblbError if there is none."""
        wanted = tuple(roles)
        found = [party for party in self.parties(wanted) if party.name == name]
        if not found:
            known = ", ".join(dict.fromkeys(party.name for party in self.parties(wanted))) or "none"
            raise NblbError(f"there is no key of {name!r}; the names are: {known}")
        return found

    def revoke(self, name: str, roles: Iterable[Role], reason: str) -> list[Party]:
        """Revoke all keys and invitations of a name; return those that were valid until now."""
        wanted = set(roles)
        invited = [each for each in self._invited.values() if each.name == name and each.role in wanted]
        valid = [party for party in (self.named(name, wanted) if not invited else self.parties(wanted))
                 if party.name == name and not party.revoked]  # fmt: skip
        for each in invited:
            del self._invited[each.key]
        for party in valid:
            self._by_key[party.key] = msgspec.structs.replace(party, revoked=reason or "by an administrator")
        return valid

    def change(
        self, name: str, roles: Iterable[Role], role: Role | None = None, until: float | None = None
    ) -> list[Party]:
        """Give all valid keys of a name another role or another end; return them."""
        changed = []
        for party in [party for party in self.named(name, roles) if not party.revoked]:
            new = msgspec.structs.replace(party, role=role or party.role, until=party.until if until is None else until)
            self._by_key[party.key] = new
            changed.append(new)
        return changed
