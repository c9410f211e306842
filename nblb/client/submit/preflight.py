"""`task.preflight()`: reports what a call would send, and what each hub lacks for it, without submitting the task."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nblb.client.rows import HubInfo
from nblb.client.submit.submit import Options, submit
from nblb.payload import HUBS_OWN, Item, inventory, missing_modules
from nblb.quantities import size

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

ASK_S = 5.0  # longest wait for hubs to check for modules
MOST_PROBES = 64


@dataclass(frozen=True)
class Preflight:
    """The report of `task.preflight()`: what a call would send (`items`), and what each hub lacks for it (`lacks`).

    An item has a `name`, a `kind`, `how` it is sent ("by value", "by content hash" or "the hub's own"), `nbytes` and a
    `hash`. The first item is the function with everything that is pickled with it. `lacks` maps the name of a hub to a
    list of sentences, which is empty if the hub has everything already.
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
    """List what a call of the function would send, and what each hub lacks for it.

    Parameters
    ----------
    cluster
        The cluster whose hubs are checked.
    function, options
        The function and options of the task; the priority selects the workers that are asked.
    args, kwargs
        The arguments of the call.

    Raises
    ------
    NotSerializable
        The function or an argument cannot be pickled; the message names the part.
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
    """Hub -> the modules that its workers cannot import."""
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
        pass  # the workers are busy, or in another priority band
    for future in futures:
        future.cancel()
    silent = f"an answer: none of its workers was free within {ASK_S:g} s to check for {', '.join(modules)}"
    return {hub: found.get(hub, [silent]) for hub in hubs}
