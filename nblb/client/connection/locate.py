"""Locating the core of a cluster, and the Hello with which this process introduces itself."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from nblb.access import connection_file
from nblb.client.submit.origin import notebook
from nblb.errors import LoadBalancerUnreachable
from nblb.host import account
from nblb.parameters import Parameters
from nblb.protocol.messages import Hello
from nblb.system.core_file import find_core_file, other_core
from nblb.system.private_folder import with_connection
from nblb.transport.dialing import best_address
from nblb.user_text import clean_name


def find_core(parameters: Parameters, zeromq: bool = False, role: str = "") -> str:
    """The address at which the core accepts clients; with `zeromq`, its address for ZeroMQ sockets.

    Raises
    ------
    LoadBalancerUnreachable
        No core runs, or the one in the connection file has ended.
    ParametersError
        The parameters name another computer, whose cluster this account has not joined.
    """
    parameters = with_connection(parameters, role)
    if parameters.connection:
        return connection_file.read(Path(parameters.connection)).address("clients")
    core = find_core_file(parameters)
    if core is not None:
        address = best_address(core.addresses, "clients", zeromq)
        if core.stale:
            raise LoadBalancerUnreachable(f"the core '{parameters.name}' (pid {core.pid}, {address}) is gone")
        if address:
            return address
    if parameters.LB_SECURITY == "none" and parameters.LB_CLIENTPULLPORT:
        return f"tcp://{parameters.LB_IP}:{parameters.LB_CLIENTPULLPORT}"
    if core is None and (other := other_core(parameters)):
        raise LoadBalancerUnreachable(other)
    raise LoadBalancerUnreachable(
        f"no core '{parameters.name}' runs here: there is no {parameters.connection_file}; "
        "start one with %lb_start, lb.start() or 'nblb start'"
    )


def hello(user: str = "") -> Hello:
    """The Hello of this process."""
    import cloudpickle

    return Hello(
        client=os.urandom(16).hex(),
        user=clean_name(user or account()),
        host=socket.gethostname(),
        pid=os.getpid(),
        python=(sys.version_info[0], sys.version_info[1]),
        cloudpickle=str(cloudpickle.__version__),
        notebook=notebook(),
        since=time.time(),
    )
