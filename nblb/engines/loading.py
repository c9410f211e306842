"""Makes the engine that a hub was told to use, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nblb.engines.engine import Engine
from nblb.errors import NblbError

DASK = "dask"
HOW = 'it must be "processes", "dask", or "module:callable" for what returns a concurrent.futures.Executor'


def load(name: str, options: Mapping[str, Any]) -> Engine:
    """Return the engine of this name.

    Raises
    ------
    NblbError
        There is none, or its library is not installed.
    """
    if name == DASK:
        from nblb.engines.dask_engine import DaskEngine

        return DaskEngine(options)
    if ":" in name:
        from nblb.engines.executor_engine import ExecutorEngine

        return ExecutorEngine(name, options)
    raise NblbError(f"there is no engine {name!r}: {HOW}")
