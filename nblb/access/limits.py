"""Shares and quotas of users and of groups of users; pure.

A user without a group is a group of one. A share says how much of the workers its owner gets while others wait, too:
twice the share, twice the workers. A limit of 0 is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal, TypeAlias

import msgspec

from nblb.errors import NblbError

LimitedKind: TypeAlias = Literal["user", "group"]
LEAST_SHARE, MOST_SHARE = 0.01, 1000.0
MOST_LIMITED = 10_000
QUOTAS = ("max_queued", "max_running", "max_bytes")
MOST = 10**18
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """The share and the quotas of one user or of one group."""

    name: str
    of: LimitedKind = "user"
    share: float = 1.0
    max_queued: int = 0  # waiting tasks that compete at once; beyond it the JSON door refuses tasks
    max_running: int = 0  # workers that are occupied at once
    max_bytes: int = 0  # arguments, results and uploaded objects that the core stores
    group: str = ""  # of a user

    @property
    def whose(self) -> str:
        """Its owner, for a sentence."""
        return self.name if self.of == "user" else f"group {self.name}"

    @property
    def is_default(self) -> bool:
        """True if it says nothing."""
        return self == Limits(self.name, self.of)


def changed_limits(old: Limits, about: Mapping[str, Any]) -> Limits:
    """Return the limits with the changes that a request names; raise NblbError for a value that cannot be one."""
    changes: dict[str, Any] = {}
    if about.get("share") is not None:
        share = about["share"]
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not isfinite(share):
            raise NblbError(f"the share is {str(share)[:40]!r}; it must be a number")
        if not LEAST_SHARE <= share <= MOST_SHARE:
            raise NblbError(f"the share is {share:g}; it must be a number from {LEAST_SHARE:g} to {MOST_SHARE:g}")
        changes["share"] = float(share)
    for key in QUOTAS:
        value = about.get(key)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value <= MOST:
            raise NblbError(f"{key!r} is {str(value)[:40]!r}; it must be a whole number, 0 for no limit")
        changes[key] = value
    if about.get("group") is not None:
        if old.of == "group":
            raise NblbError(f"{old.name!r} is a group, and a group is in no other group")
        changes["group"] = checked_limited_name(about["group"]) if about["group"] else ""
    return msgspec.structs.replace(old, **changes)


def checked_limited_name(name: object) -> str:
    """Return the name of a user or of a group; raise NblbError if it cannot be one."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NblbError(f"the name is {str(name)[:80]!r}; it must be a text of up to 128 characters")
    return name
