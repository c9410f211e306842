"""The notebook extension: magics, and live cards of clusters, jobs and tasks. Loaded by %load_ext nblb."""

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
    """Registers the cards only, for kernels that use a cluster without %load_ext (see client/front_end.py)."""
    from nblb.notebook import display_hooks

    display_hooks.install(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Undoes load_ipython_extension; the cluster goes on."""
    from nblb.notebook import display_hooks
    from nblb.notebook.magics import completion, magics

    completion.remove(ipython)
    magics.remove(ipython)
    display_hooks.remove(ipython)
