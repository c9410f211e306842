"""The button that starts a stopped cluster, or one whose core has died, again."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


def restarted(cluster: Cluster | None = None) -> Cluster:
    """Start the core and the hub of a cluster with the settings that it had, or find that they run.

    Parameters
    ----------
    cluster
        The cluster; without one, the cluster that tasks of this kernel go to.

    Raises
    ------
    NblbError
        The core does not start; the message names its log.
    """
    from nblb import launch
    from nblb.client import open_clusters
    from nblb.launch.cluster_processes import StartWarning

    cluster = cluster or open_clusters.known()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StartWarning)  # the card says so
        return launch.start(cluster.parameters if cluster is not None else None)
