"""`task.preflight()`: what would travel with a call, and what each hub lacks for it, before anything is submitted."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nblb.client.rows import HubInfo
from nblb.client.submit.submit import Options, submit
from nblb.payload import HUBS_OWN, Item, inventory, missing_modules
from nblb.shared_files.output_log import size

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

ASK_S = 5.0  # for all hubs to look for their modules
MOST_PROBES = 64


@dataclass(frozen=True)
class Preflight:
    """What would travel with a call (`items`), and what each hub lacks for it (`lacks`: by the hub's name).

    An item has a `name`, a `kind`, `how` it travels ("by value", "by content hash" or "the hub's own"), `nbytes` and a
    `hash`. The first one is the function, with all that travels with it. What a hub lacks is a list of sentences; it
    is empty where the hub has all of it already.
    """

    items: list[Item]
    lacks: dict[str, list[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = [("name", "kind", "how", "size", "hash")]
        rows += [(i.name, i.kind, i.how, size(i.nbytes) if i.hash else "", i.hash[:8]) for i in self.items]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"hub {hub} lacks {', '.join(what) or 'nothing'}" for hub, what in self.lacks.items()]
        return "\n".join(lines if self.lacks else [*lines, "no hub is there"])


def preflight(
    cluster: Cluster,
    function: Callable[..., Any],
    options: Options,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Preflight:
    """What would travel with a call of the function, and what each hub lacks for it.

    Parameters
    ----------
    cluster
        Whose hubs are asked.
    function, options
        What the task is made of; its priority says which workers are asked.
    args, kwargs
        The arguments of the call.

    Raises
    ------
    NotSerializable
        Names the part that cannot travel.
    """
    items = inventory(function, args, kwargs)
    hubs = [HubInfo(row) for row in cluster.connection.ask("hubs", {"holds": [item.hash for item in items]})]
    lacks: dict[str, list[str]] = {hub.name: [] for hub in hubs}
    for hub in hubs:
        if list(hub.python) != list(sys.version_info[:2]):
            here = f"{sys.version_info[0]}.{sys.version_info[1]}"
            lacks[hub.name].append(f"Python {here}: it has {hub.python[0]}.{hub.python[1]}")
        if items[0].hash not in hub.holds:
            lacks[hub.name].append(f"the function, which will be sent once ({size(items[0].nbytes)})")
    modules = [item.name.split()[0] for item in items if item.how == HUBS_OWN]
    if modules and hubs:
        for hub_name, missing in _looked_for(cluster, options, modules, set(lacks)).items():
            lacks[hub_name] += missing
    return Preflight(items, lacks)


def _looked_for(cluster: Cluster, options: Options, modules: list[str], hubs: set[str]) -> dict[str, list[str]]:
    """By hub: the modules that its workers cannot import."""
    workers = {row.worker: row.hub for row in cluster.workers()}
    plain = Options(name="preflight", priority=options.priority, user=options.user)
    number = min(MOST_PROBES, 2 * len(workers))
    futures: list[Any] = [submit(cluster, missing_modules, plain, ((modules,), {})) for _ in range(number)]
    found: dict[str, list[str]] = {}
    try:
        completed: Any = concurrent.futures.as_completed(futures, ASK_S)
        for future in completed:
            hub = workers.get(future.worker)
            if hub is not None and future.exception() is None:
                found[hub] = [f"the module {name}" for name in future.result()]
            if found.keys() >= hubs:
                break
    except concurrent.futures.TimeoutError:
        pass  # its workers are busy, or of another band
    for future in futures:
        future.cancel()
    silent = f"an answer: no worker of it was free within {ASK_S:g} s to look for {', '.join(modules)}"
    return {hub: found.get(hub, [silent]) for hub in hubs}
