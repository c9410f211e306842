"""The text of a systemd unit for one process of a cluster; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nblb.errors import NblbError

ROLES = ("core", "hub", "monitor", "health")
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_DESCRIPTIONS = {"core": "Load Balancer", "hub": "hub", "monitor": "Monitor", "health": "Health Check"}


@dataclass(frozen=True)
class ServiceUnit:
    """One unit: a role of a cluster, its command, and the account that runs it (a system unit's only)."""

    cluster: str
    role: str
    command: Sequence[str]
    is_system: bool = False
    account: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_core: bool = False  # the core is a unit of this computer, too

    @property
    def name(self) -> str:
        """The name of the unit's file."""
        return unit_name(self.cluster, self.role)

    def text(self) -> str:
        """Return the contents of the unit's file."""
        lines = ["[Unit]", f"Description=nblb {_DESCRIPTIONS[self.role]} of the cluster {self.cluster}"]
        lines.append("StartLimitIntervalSec=0")  # it goes on trying, for example until an address is there
        after = [unit_name(self.cluster, "core")] if self.needs_core else []
        if self.is_system:
            lines.append("Wants=network-online.target")
            after.append("network-online.target")
        if after:
            lines.append(f"After={' '.join(after)}")
        lines += ["", "[Service]", "Type=exec", f"ExecStart={' '.join(map(quoted, self.command))}"]
        lines += [f"Environment={quoted(f'{name}={value}')}" for name, value in self.environment.items()]
        if self.is_system and self.account:
            lines.append(f"User={self.account}")
        lines += [
            "WorkingDirectory=~",
            "UMask=0077",
            # A hub ends by itself when its core is away for long or stops its hubs, and must come back with the core.
            f"Restart={'always' if self.role == 'hub' else 'on-failure'}",
            "RestartSec=5",
            "KillMode=mixed",  # the process ends its own children in good order
            "TimeoutStopSec=30",
            "LimitNOFILE=65536",
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if self.is_system else 'default.target'}",
        ]
        return "\n".join(lines) + "\n"


def unit_name(cluster: str, role: str) -> str:
    """Return the name of the unit for a role of a cluster."""
    return f"nblb-{cluster}-{role}.service"


def quoted(word: str) -> str:
    """Return one word of a command line or an assignment as systemd reads it.

    Raises
    ------
    NblbError
        It has a line break or another control character, which no unit can carry.
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in word):
        raise NblbError(f"{word!r} has a control character, and cannot stand in a systemd unit; rename the file")
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
