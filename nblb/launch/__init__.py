"""Starting, finding and stopping a cluster: one detached process for each role, none of them in this process."""

from nblb.launch.cluster_processes import add_hub, connect, settle, start, stop
from nblb.launch.monitor_links import monitor_url
from nblb.launch.seed_names import startAll, startWorkerHub

__all__ = ["add_hub", "connect", "monitor_url", "settle", "start", "startAll", "startWorkerHub", "stop"]
