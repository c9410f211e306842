"""Where the core of a cluster is, and who we are."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import time
from typing import Any

import msgspec

from nblb.client.origin import notebook
from nblb.errors import LoadBalancerUnreachable
from nblb.messages import Hello
from nblb.parameters import Parameters
from nblb.transport.dialling import best_address


def core_file(parameters: Parameters) -> dict[str, Any] | None:
    """What the core wrote of itself, None where there is none."""
    try:
        about = msgspec.json.decode(parameters.connection_file.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return about if isinstance(about, dict) else None


def find_core(parameters: Parameters, zeromq: bool = False) -> str:
    """The address of the clients' door; with `zeromq` one for sockets of ZeroMQ.

    Raises
    ------
    LoadBalancerUnreachable
        There is no core, or the one that was there is gone.
    """
    about = core_file(parameters)
    if about is not None:
        pid = about.get("pid", 0)
        address = best_address(about.get("addresses", {}), "clients", zeromq)
        if about.get("host") == socket.gethostname() and not _is_alive(pid):
            raise LoadBalancerUnreachable(f"the core '{parameters.name}' (pid {pid}, {address}) is gone")
        if address:
            return address
    if parameters.LB_SECURITY == "none" and parameters.LB_CLIENTPULLPORT:
        return f"tcp://{parameters.LB_IP}:{parameters.LB_CLIENTPULLPORT}"
    raise LoadBalancerUnreachable(
        f"no core '{parameters.name}' runs here: there is no {parameters.connection_file}; "
        "start one with %lb_start, lb.start() or 'nblb start'"
    )


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def account() -> str:
    """The name of the account that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return str(os.getuid())


def hello(user: str = "") -> Hello:
    """This process, as it greets the core."""
    import cloudpickle

    return Hello(
        client=os.urandom(16).hex(),
        user=user or account(),
        host=socket.gethostname(),
        pid=os.getpid(),
        python=(sys.version_info[0], sys.version_info[1]),
        cloudpickle=str(cloudpickle.__version__),
        notebook=notebook(),
        since=time.time(),
    )
