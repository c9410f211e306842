"""The settings of one group's worker processes, from the hub through the fork server to each worker."""

from __future__ import annotations

import msgspec

from nblb.parameters import Parameters


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a worker process; every field must be given, so that no limit is left out by mistake."""

    niceness: int
    threads: int  # for numerical libraries: the worker's share of the cores
    max_message_mb: int
    env: dict[str, str]
    memory_mb: int  # 0: no limit
    max_rss_mb: int  # between two tasks, a worker above it is replaced; 0: no limit
    max_processes: int  # of the account; 0: no limit
    run_as: str  # "hub": the account of the hub; "submitter": that of the user of its tasks …
    account: str  # … whose name is known when it is forked; "" for the hub's
    parameters: Parameters  # for the tasks that submit tasks
