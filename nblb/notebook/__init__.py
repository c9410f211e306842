"""The notebook's side: magics, and cards that show clusters, jobs and tasks live. Loaded by %load_ext nblb."""

from __future__ import annotations

from typing import Any


def load_ipython_extension(ipython: Any) -> None:
    """Registers magics, completion and cards; doing so twice is harmless."""
    from nblb.notebook import display_hooks
    from nblb.notebook.magics import completion, magics

    magics.install(ipython)
    completion.install(ipython)
    display_hooks.install(ipython)


def show_cards(ipython: Any) -> None:
    """Cards alone: what the client asks for when a kernel uses a cluster without %load_ext (client/front_end.py)."""
    from nblb.notebook import display_hooks

    display_hooks.install(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Takes back what load_ipython_extension did; the cluster goes on."""
    from nblb.notebook import display_hooks
    from nblb.notebook.magics import completion, magics

    completion.remove(ipython)
    magics.remove(ipython)
    display_hooks.remove(ipython)
