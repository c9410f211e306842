"""`%lb_debug`: the call of a task, made here under the debugger."""

from __future__ import annotations

from typing import Any

from nblb.client.calls import fetch_call


def run(shell: Any, connection: Any, task: str, item: int) -> Any:
    """Makes the call with the function and the arguments that the worker got; what it raises opens the debugger."""
    function, args, kwargs = fetch_call(connection, task, item)
    try:
        value = function(*args, **kwargs)
    except Exception:
        shell.showtraceback()
        shell.debugger(force=True)
        return None
    print("it raised nothing here; this is what it returned:")
    return value
