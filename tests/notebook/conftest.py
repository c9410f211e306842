"""A real IPython with the magics, on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nblb.client.cluster import Cluster
from nblb.notebook import load_ipython_extension, unload_ipython_extension


@pytest.fixture
def live_shell(cluster: Cluster) -> Iterator[Any]:
    """An IPython whose %lb_… magics reach the cluster of the test."""
    ipython = InteractiveShell.instance()
    ipython.reset()
    load_ipython_extension(ipython)
    yield ipython
    unload_ipython_extension(ipython)
    InteractiveShell.clear_instance()
