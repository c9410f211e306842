"""The address on which a core listens for other computers."""

from __future__ import annotations

import ipaddress
import socket

from nblb.errors import NblbError
from nblb.system.private_folder import is_loopback

WILDCARDS = {"*": "0.0.0.0"}


def listening_address(name: str) -> str:
    """Return the numeric address for LB_IP; "" if that is loopback, where only Unix sockets listen.

    Raises
    ------
    NblbError
        It is no address of this computer.
    """
    name = WILDCARDS.get(name, name)
    if is_loopback(name):
        return ""
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        found = [str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise NblbError(f"LB_IP is {name!r}, which is not the name of a known computer.") from None
    outside = [address for address in found if not is_loopback(address)]
    return outside[0] if outside else ""


def reachable_name(ip: str) -> str:
    """Return the name or address under which other computers reach a core that listens on `ip`."""
    if not ipaddress.ip_address(ip).is_unspecified:
        return ip
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:  # nothing is sent: the system only chooses the address from which it would send
            probe.connect(("2001:db8::1" if ":" in ip else "192.0.2.1", 9))
            found = str(probe.getsockname()[0])
        except OSError:
            found = ""
    return found if found and not is_loopback(found) else socket.gethostname()
