"""Access to a cluster: only the account that owns the folder of its sockets, and no other computer.

The rules until parties have keys: Unix sockets in a folder that only this account can enter, and TCP only on request
and only on loopback addresses. A party that can connect can run code, so every doubt ends in an error with the reason.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from functools import cache
from pathlib import Path

import msgspec

from nblb.access import connection_file
from nblb.errors import NblbError, ParametersError
from nblb.host import BESIDE, LONGEST_SOCKET_PATH, why_no_sockets
from nblb.parameters import Parameters
from nblb.system.state_mark import claim


def private_folder(path: Path) -> Path:
    """Make the folder if it is missing, ensure that no other account can enter it, and return it."""
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
            f"The folder {path} is a link or belongs to another account, so other accounts could use its sockets; "
            "remove it, or name another with NBLB_RUNTIME_DIR."
        )
    return path


def runtime_folder(parameters: Parameters) -> Path:
    """Return the private folder of this cluster's sockets, which is made if it is missing.

    Raises
    ------
    JournalError
        The folder would be inside of a state folder that is not nblb's.
    """
    folder = parameters.runtime_dir
    if is_at_state_folder(folder, parameters):
        claim(parameters.state_dir)
    elif not folder.parent.exists() or folder.parent.name.startswith("nblb"):  # one that the user has named stays
        private_folder(folder.parent)
    return private_folder(folder)


def is_at_state_folder(folder: Path, parameters: Parameters) -> bool:
    """Return True if this runtime folder is beside the state folder or in it."""
    state_dir = Path(os.path.realpath(parameters.state_dir))
    return folder.parent == state_dir or (folder.parent == state_dir.parent and folder.name.startswith(BESIDE))


def place_of_sockets(parameters: Parameters) -> str:
    """Return a sentence that names the folder of the sockets; "" if it is beside the state folder or in it."""
    folder = parameters.runtime_dir
    if is_at_state_folder(folder, parameters):
        return ""
    if os.environ.get("NBLB_RUNTIME_DIR"):
        return f"the sockets are in {folder}, because NBLB_RUNTIME_DIR names its parent folder"
    why = why_no_sockets(Path(os.path.realpath(parameters.state_dir)).parent / f"{BESIDE}000000")
    return f"the sockets are in {folder}, not beside the state folder: {why}"


def socket_address(path: Path) -> str:
    """Return the ZeroMQ address of the Unix socket at `path`."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise NblbError(
            f"The path of a Unix socket may have at most {LONGEST_SOCKET_PATH} bytes, and {path} is longer; "
            "name a shorter folder with NBLB_RUNTIME_DIR."
        )
    return f"ipc://{path}"


def loopback_address(name: str, key: str) -> str:
    """Return the numeric loopback address of `name`, to bind to.

    Raises
    ------
    NblbError
        The address is not loopback: other computers could connect, without any check of their identity.
    """
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise NblbError(
            f"{key} is {name!r}, which is not the name of a known computer; use a loopback address such as 127.0.0.1."
        ) from None
    if not found or not all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found):
        raise NblbError(
            f'{key} is {name!r}, which other computers can reach, and with LB_SECURITY "none" any of them could run '
            "code here; use a loopback address such as 127.0.0.1."
        )
    return found[0]


def is_loopback(name: str) -> bool:
    """Return True for "localhost" or an address that only this computer can reach."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@cache
def is_this_computer(name: str) -> bool:
    """Return True for an address or a name of this computer, or for a wildcard of all its addresses."""
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


def with_connection(parameters: Parameters, role: str = "") -> Parameters:
    """Return the parameters with the connection file of their cluster, if LB_IP is another computer's.

    Parameters
    ----------
    parameters
        Those that somebody has given; `connection` is kept if it is set already.
    role
        "hub" for a hub, which has a key of its own; else a person's.

    Raises
    ------
    ParametersError
        This account has not joined that cluster, or the connection file is for another role.
    NotAllowed
        Other accounts can read the connection file.
    """
    if parameters.connection:
        found = connection_file.read(Path(parameters.connection))
        if (found.role == "hub") == (role == "hub"):
            return parameters
        if role == "hub":
            path = connection_file.named(found.cluster, role)
            return msgspec.structs.replace(parameters, connection=str(path))
        raise ParametersError(
            f"{parameters.connection}: is the connection file of a hub, with which no tasks can be sent; "
            f"{connection_file.HOW_TO_JOIN}."
        )
    if parameters.LB_SECURITY != "on" or is_this_computer(parameters.LB_IP):
        return parameters
    path_there = connection_file.of_host(parameters.LB_IP, parameters.LB_NAME, role)
    if path_there is not None:
        return msgspec.structs.replace(parameters, connection=str(path_there))
    raise ParametersError(
        f"{parameters.source}: LB_IP is {parameters.LB_IP!r}, which is no address of this computer, and this "
        f"account has not joined a cluster there{' as a hub' if role == 'hub' else ''}; {connection_file.HOW_TO_JOIN}, "
        "or leave the key out to have a core here."
    )
