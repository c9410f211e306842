"""`%lb_debug`: repeats the call of a task in this process, under the debugger."""

from __future__ import annotations

from typing import Any

from nblb.client.debug.fetch_call import fetch_call
from nblb.notebook.tracebacks import of_the_user


def run(shell: Any, connection: Any, task: str, item: int) -> Any:
    """Repeats the call with the function and arguments that the worker got; an exception opens the debugger."""
    function, args, kwargs = fetch_call(connection, task, item)
    try:
        value = function(*args, **kwargs)
    except Exception as error:
        tb = of_the_user(error.__traceback__) or error.__traceback__
        shell.showtraceback((type(error), error, tb), tb_offset=0)
        shell.debugger(force=True)
        return None
    print("it raised nothing here; this is what it returned:")
    return value
