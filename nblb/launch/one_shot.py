"""Single queries to a core, each on its own connection, for use without a client."""

from __future__ import annotations

import os
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

from nblb import errors
from nblb.access import connection_file
from nblb.client.connection.locate import find_core
from nblb.errors import LoadBalancerUnreachable, NblbError, NotAllowed
from nblb.host import account
from nblb.protocol.messages import (
    Administer,
    Answer,
    Ask,
    CancelAnswer,
    CancelTask,
    DrainHub,
    Hello,
    Message,
    Refused,
    RemoveHub,
    ScaleHub,
    StopCore,
    Welcome,
    client_to_core,
    core_to_client,
)
from nblb.system.core_file import CoreFile, find_core_file
from nblb.system.private_folder import with_connection
from nblb.transport.dialing import best_address, dial

if TYPE_CHECKING:
    from nblb.parameters import Parameters

LOOK_S = 0.2  # seconds between two checks that the core still lives
HOW_TO_START = "start one with %lb_start, lb.start() or 'nblb start'"


def find(parameters: Parameters) -> tuple[str, CoreFile | None]:
    """Returns the client address of the core for these parameters, and its core.json if there is one.

    Raises
    ------
    LoadBalancerUnreachable
        There is no core, or it has ended.
    """
    parameters = let_in(parameters)
    if parameters.connection:
        return find_core(parameters), None
    core = find_core_file(parameters)
    if core is not None and core.stale:
        raise LoadBalancerUnreachable(f"{core.stale} (it was {core.addresses.get('clients')}); {HOW_TO_START}")
    return find_core(parameters), core


def let_in(parameters: Parameters) -> Parameters:
    """Returns the parameters with the connection file of their cluster; of several, one that the core accepts.

    Only where this account has several for the address of LB_IP are they tried: a refused one is left for the next.
    """
    tried = set[str]()
    while True:
        chosen = with_connection(parameters)
        several = chosen.connection and not parameters.connection and _has_several(parameters)
        if not several or chosen.connection in tried:
            return chosen  # all are refused: the caller gets the reason
        tried.add(chosen.connection)
        try:
            welcome(find_core(chosen))
        except NotAllowed:
            continue  # which the file has recorded
        except NblbError:
            pass
        return chosen


def _has_several(parameters: Parameters) -> bool:
    return len(connection_file.all_of_host(parameters.LB_IP, parameters.LB_NAME)) > 1


def welcome(address: str, timeout_s: float = 5.0) -> Welcome:
    """Returns the core's answer to a hello; raises its refusal, or LoadBalancerUnreachable."""
    until = time.monotonic() + timeout_s
    line = dial(address, client_to_core, core_to_client, files=False)
    try:
        line.send([Hello(client=uuid.uuid4().hex, user=account(), host=socket.gethostname(), pid=os.getpid())])
        while (left := until - time.monotonic()) > 0:
            for said in line.receive(left):
                if isinstance(said, Refused):
                    raise _error(said.kind, said.reason)
                if isinstance(said, Welcome):
                    return said
    finally:
        line.close()
    plain, _ = connection_file.split(address)
    raise LoadBalancerUnreachable(f"no core answers at {plain} within {timeout_s:g} s: it does not run, or a firewall")


def ask(address: str, topic: str, about: dict[str, Any] | None = None, timeout_s: float = 5.0) -> Any:
    """Returns the core's answer to a query of broker/queries.py."""
    return _question(address, Ask(request=1, topic=topic, about=about or {}), timeout_s)


def stop_core(core: CoreFile, hubs: bool, timeout_s: float = 5.0) -> None:
    """Asks the core to end, and waits for its confirmation."""
    _question(best_address(core.addresses, "clients"), StopCore(request=1, hubs=hubs), timeout_s, core)


def stop_remote(parameters: Parameters, timeout_s: float = 5.0) -> None:
    """Asks a core on another computer to end with its hubs."""
    _question(find_core(parameters), StopCore(request=1, hubs=True), timeout_s)


def retire_hub(address: str, hub: str, action: str, timeout_s: float = 5.0) -> int:
    """Drains, undrains or removes a hub; returns how many pieces of work it still has."""
    if action == "remove":
        return int(_question(address, RemoveHub(request=1, hub=hub), timeout_s))
    return int(_question(address, DrainHub(request=1, hub=hub, drain=action == "drain"), timeout_s))


def administer(address: str, action: str, about: dict[str, Any], timeout_s: float = 5.0) -> Any:
    """Changes or lists who may connect; returns the core's answer to an action of broker/access/key_changes.py."""
    return _question(address, Administer(request=1, action=action, about=about), timeout_s)


def scale_hub(address: str, hub: str, workers: int, timeout_s: float = 5.0) -> None:
    """Sets a hub's number of workers; they start and stop after the answer."""
    _question(address, ScaleHub(request=1, hub=hub, workers=workers), timeout_s)


def cancel(address: str, task: str = "", job: str = "", kill: bool = False, timeout_s: float = 5.0) -> int:
    """Cancels a task or a job by its id; returns how many tasks are or will be cancelled."""
    task, _, item = task.partition(".")
    first, items = (int(item), 1) if item.isdigit() else (0, 0)
    message = CancelTask(request=1, task=task, first=first, items=items, job=job, kill=kill)
    return int(_question(address, message, timeout_s))


def order(address: str, message: Message, user: str = "", role: str = "", timeout_s: float = 5.0) -> Any:
    """Sends a request, whose `request` is 1, and returns the core's answer.

    With `role` the core allows no more than a key of this user and role may.
    """
    return _question(address, message, timeout_s, user=user, role=role)


def _question(
    address: str, message: Message, timeout_s: float, core: CoreFile | None = None, user: str = "", role: str = ""
) -> Any:
    client = uuid.uuid4().hex
    until = time.monotonic() + timeout_s
    line = dial(address, client_to_core, core_to_client, files=False)
    try:
        hello = Hello(client=client, user=user or account(), host=socket.gethostname(), pid=os.getpid(), role=role)
        line.send([hello, message])
        while (left := until - time.monotonic()) > 0 and not (core is not None and core.stale):
            for said in line.receive(min(left, LOOK_S)):
                if isinstance(said, Refused):
                    raise _error(said.kind, said.reason)
                if isinstance(said, CancelAnswer):
                    return said.cancelled
                if isinstance(said, Answer) and said.request == 1:
                    if said.error:
                        raise _error(said.kind, said.error)
                    return said.value
    finally:
        line.close()
    plain, _ = connection_file.split(address)
    raise LoadBalancerUnreachable(
        f"the load balancer at {plain} does not answer within {timeout_s:g} s; {HOW_TO_START}"
    )


def _error(kind: str, sentence: str) -> NblbError:
    found = getattr(errors, kind, NblbError)
    return found(sentence) if isinstance(found, type) and issubclass(found, NblbError) else NblbError(sentence)
