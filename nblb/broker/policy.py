"""Builds the scheduler's policy from the parameters of a cluster."""

from __future__ import annotations

import os
from pathlib import Path

from nblb.broker import kept_settings
from nblb.broker.journal.journal import Journal
from nblb.broker.journal.memory import MemoryJournal
from nblb.parameters import Parameters
from nblb.scheduling.adapting.adaptation import SETTING
from nblb.scheduling.adapting.policy import Adapting, refusal
from nblb.scheduling.state import Policy
from nblb.shared_files.transfer import process_name


def policy(parameters: Parameters, journal: Journal | MemoryJournal, output: Path, bulk: int = 0) -> Policy:
    """Return the scheduler's policy.

    `output` is the folder in which hubs store the output of tasks, `bulk` the port of the bulk door.
    """
    p = parameters
    return Policy(
        max_queued=p.LB_QUEING_MAXPERUSER,
        max_crashes=p.LB_MAX_CRASHES,
        halflife_s=p.LB_FAIR_HALFLIFE_S,
        ageing_s=p.LB_AGEING_S,
        prefetch_s=p.LB_PREFETCH_MS / 1000,
        heartbeat_s=p.LB_HEARTBEAT_S,
        suspect_s=p.LB_SUSPECT_S,
        lease_s=p.lease_s,
        adopt_s=max(30.0, 1.5 * p.LB_LEASE_S),  # a disconnected hub has stopped its work by then
        result_ttl_s=p.LB_RESULT_TTL_S,
        job_ttl_s=p.LB_JOB_TTL_S,
        name=p.name,
        core=journal.core,
        epoch=journal.epoch,
        durability=p.LB_DURABILITY,
        pid=os.getpid(),
        output=str(output),
        files=journal.claims.offered,
        token=journal.claims.token,
        process=process_name(),
        bulk=bulk,
        idle_timeout_s=p.LB_IDLE_TIMEOUT_S,
        adapting=adapting(p.state_dir),
    )


def adapting(folder: Path) -> Adapting | None:
    """Return the limits between which an earlier core has adapted; None without any, or if they are not valid."""
    limits = kept_settings.read(folder, SETTING, Adapting)
    return limits if limits is not None and not refusal(limits) else None
