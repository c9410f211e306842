"""Starts threads; where the system allows no more of them, one sentence says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from nblb.errors import NblbError


def start_thread(target: Callable[..., Any], name: str, args: Sequence[Any] = ()) -> threading.Thread:
    """Start a thread that ends with the process, and return it.

    Raises
    ------
    NblbError
        The limit of processes and threads is reached.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise NblbError(
            f"The thread {name} cannot be started: the limit of processes and threads of this account or container is "
            "reached (`ulimit -u`, or pids.max of its cgroup); end some programs, or raise the limit."
        ) from None
    return thread
