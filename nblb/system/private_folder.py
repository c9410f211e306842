"""Who may reach a cluster: on this computer the owner of the folder of its sockets, and nobody from elsewhere.

The rules of the first releases, until parties have keys: Unix sockets in a folder that only this account can
enter, and TCP only when asked for and only on loopback addresses. Whoever can connect can run code, so every
doubt ends in a refusal that says why.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import sys
from functools import cache
from pathlib import Path

from nblb.errors import NblbError, ParametersError
from nblb.parameters import Parameters

LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107


def private_folder(path: Path) -> Path:
    """This folder, made if need be, once it is certain that no other account can enter it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
            found = path.lstat()
    except OSError as error:
        raise NblbError(f"The folder {path} cannot be made or entered: {error.strerror or error}.") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise NblbError(
            f"The folder {path} is a link or belongs to another account, so its sockets could be read by others; "
            "remove it, or name another with NBLB_RUNTIME_DIR."
        )
    return path


def runtime_folder(parameters: Parameters) -> Path:
    """The private folder of this cluster's sockets, made if need be."""
    base = parameters.runtime_base
    if not base.exists() or base.name.startswith("nblb"):  # one that the user named stays as it is
        private_folder(base)
    return private_folder(parameters.runtime_dir)


def socket_address(path: Path) -> str:
    """The ZeroMQ address of the Unix socket at `path`."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise NblbError(
            f"The path of a Unix socket may have {LONGEST_SOCKET_PATH} bytes, and {path} is longer; "
            "name a shorter folder with NBLB_RUNTIME_DIR."
        )
    return f"ipc://{path}"


def loopback_address(name: str, key: str) -> str:
    """The numeric loopback address that `name` stands for, to bind to; anything else is refused.

    Raises
    ------
    NblbError
        If other computers could connect, since nothing would check who they are.
    """
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise NblbError(f"{key} is {name!r}, and no computer of this name is known here.") from None
    if not found or not all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found):
        raise NblbError(
            f'{key} is {name!r}, which other computers can reach, and with LB_SECURITY "none" any of them could run '
            "code here; use a loopback address such as 127.0.0.1."
        )
    return found[0]


def is_loopback(name: str) -> bool:
    """True for an address, or "localhost", at which only this computer can be reached."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@cache
def is_this_computer(name: str) -> bool:
    """True for an address or a name of this computer, and for what stands for all its addresses."""
    if is_loopback(name) or name in {"0.0.0.0", "::", "*", socket.gethostname()}:
        return True
    import psutil

    own = {one.address.partition("%")[0] for addresses in psutil.net_if_addrs().values() for one in addresses}
    if name in own:
        return True
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        return False
    return any(address in own or is_loopback(address) for address in found)


def refuse_other_computer(parameters: Parameters) -> None:
    """Raises ParametersError if LB_IP is of another computer and a core can be reached on its own one only."""
    if parameters.LB_SECURITY == "on" and not is_this_computer(parameters.LB_IP):
        raise ParametersError(
            f"{parameters.source}: LB_IP is {parameters.LB_IP!r}, which is no address of this computer, and with "
            'LB_SECURITY "on" a core is reached on its own computer only; run this there, or leave the key out to have '
            "a core here."
        )
