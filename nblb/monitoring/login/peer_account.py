"""The account at the other end of a connection over loopback, from the kernel's table of connections (Linux)."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable
from pathlib import Path

TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
ESTABLISHED = "01"
NOBODY = 65534  # stands for every account that a user namespace does not know


def is_own_account(here: tuple[str, int], there: tuple[str, int]) -> bool:
    """Return True if a process of this very account is at the other end.

    Parameters
    ----------
    here
        Address and port of this end, as `getsockname` names them.
    there
        Those of the other end.
    """
    own = os.getuid()
    return own != NOBODY and peer_account(here, there) == own


def peer_account(here: tuple[str, int], there: tuple[str, int]) -> int | None:
    """Return the account at the other end; None if it cannot be told."""
    for table in TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
            found = account_in(lines, here, there, 6 if table.name.endswith("6") else 4)
        except (OSError, ValueError):
            continue
        if found is not None:
            return found
    return None


def account_in(lines: Iterable[str], here: tuple[str, int], there: tuple[str, int], version: int) -> int | None:
    """Return the account of the connection from `there` to `here` in the lines of a table; None if it is not there.

    A closed socket has no account any more: its line says 0, which would be root.
    """
    wanted = _place(*there, version), _place(*here, version)
    for line in lines:
        words = line.split()
        if len(words) > 9 and (words[1], words[2]) == wanted and words[3] == ESTABLISHED and words[9] != "0":
            return int(words[7])
    return None


def _place(ip: str, port: int, version: int) -> str:
    """Return an address as the kernel's tables write it: words of 32 bits in this machine's byte order."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if not address.is_loopback and not (address.version == 6 and _mapped(address)):
        raise ValueError(f"{ip} is not of this computer")
    packed = address.packed
    if version == 6 and address.version == 4:
        packed = bytes(10) + b"\xff\xff" + packed
    if version == 4 and address.version == 6:
        raise ValueError(f"{ip} is not in this table")
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped is not None and mapped.is_loopback
