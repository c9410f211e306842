"""Starting, finding and stopping a cluster: one detached process for each role, none of them in this process."""

from nblb.launch.seed_names import startAll, startWorkerHub
from nblb.launch.starting import add_hub, connect, monitor_url, settle, start, stop

__all__ = ["add_hub", "connect", "monitor_url", "settle", "start", "startAll", "startWorkerHub", "stop"]
