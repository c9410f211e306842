"""The call of a task, fetched from the core and rebuilt in this process for a debugger."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nblb import payload
from nblb.errors import NblbError
from nblb.protocol.messages import CallTold, FetchCall, HoldBlob, RunTask

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection


def fetch_call(
    connection: Connection, task: str, item: int = 0
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The function, arguments and keyword arguments of one item, as a worker received them.

    Raises
    ------
    UnknownTask
        The core does not have them, or no longer has them; the message says why.
    NblbError
        The core sent an answer of another kind.
    """
    told = connection.wait_for(connection.question(FetchCall(request=connection.request(), task=task, item=item)))
    if not isinstance(told, CallTold):
        raise NblbError(f"the core did not answer with the call of task {task}; check its version of nblb")
    held: dict[str, list[HoldBlob]] = {}
    for blob in told.held:
        held.setdefault(blob.hash, []).append(blob)
    function = payload.load_function(held[told.function][0].payload)
    if told.call != "python":
        return function, (json.loads(bytes(told.payload.buffers[0])),), {}
    run = RunTask(
        task=task,
        attempt=0,
        name=told.name,
        function=told.function,
        payload=told.payload,
        items=told.items,
        split=told.split,
    )
    inputs = {name: payload.joined_results(pieces) for name, pieces in held.items() if pieces[0].total}
    constants = {
        name: payload.load_constant(pieces[0].payload)
        for name, pieces in held.items()
        if not pieces[0].total and name != told.function
    }
    args, kwargs = payload.unpack_calls(run, inputs, constants)[told.item]
    return function, args, kwargs
