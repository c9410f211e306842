"""The requests of `cluster.scale` and `cluster.adapt`: sizes of hubs, or limits between which the core scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nblb.errors import NblbError
from nblb.protocol.messages import AdaptWorkers, ScaleHub
from nblb.system.processes import is_of_this_computer

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.rows import HubInfo

IDLE_S = AdaptWorkers().idle_s


def scale(cluster: Cluster, workers: int, hub: str) -> None:
    """Set the number of workers of a cluster, or of one of its hubs; see Cluster.scale."""
    if type(workers) is not int or workers < 0:
        raise ValueError(f"the number of workers is {workers!r}; it must be a whole number, 0 or more")
    hubs = cluster.hubs() if not hub else ()
    if not hub and not hubs:
        cluster.add_hub(workers=workers)
        return
    here_first = {row.hub: row.workers for row in sorted(hubs, key=_is_elsewhere)}
    sizes = {hub: workers} if hub else shared_out(workers, here_first)
    connection = cluster.connection
    if not sizes:  # nothing changes, but a number that somebody has chosen ends adapting
        connection.wait_for(connection.question(AdaptWorkers(on=False, request=connection.request())))
    asked = [
        connection.question(ScaleHub(hub=name, workers=size, request=connection.request()))
        for name, size in sizes.items()
    ]
    for answer in asked:
        connection.wait_for(answer)


def adapt(cluster: Cluster, minimum: int | None, maximum: int | None, idle_s: float) -> None:
    """Let the number of workers follow the load, or end that; see Cluster.adapt."""
    connection = cluster.connection
    if minimum is None:
        connection.wait_for(connection.question(AdaptWorkers(on=False, request=connection.request())))
        return
    if type(minimum) is not int or type(maximum) is not int or not 0 <= minimum <= maximum:
        raise ValueError(
            f"a cluster cannot adapt between {minimum!r} and {maximum!r} workers; give two whole numbers, 0 or more, "
            "the smaller one first"
        )
    message = AdaptWorkers(minimum=minimum, maximum=maximum, idle_s=idle_s, request=connection.request())
    answer = connection.wait_for(connection.question(message))
    if not answer["has_hubs"]:
        cluster.add_hub(workers=minimum)


def adapt_limits(words: Sequence[str]) -> tuple[int | None, int | None]:
    """Return the limits that people have written as `MIN MAX`, or `off`, for Cluster.adapt.

    Raises
    ------
    NblbError
        The words are something else.
    """
    if list(words) == ["off"]:
        return None, None
    if len(words) != 2 or not all(word.isdecimal() and len(word) < 10 for word in words):
        raise NblbError(f"--adapt {' '.join(words)}: give MIN and MAX, two whole numbers of workers, or the word off")
    return int(words[0]), int(words[1])


def _is_elsewhere(row: HubInfo) -> bool:
    """True for a hub of another computer."""
    return not is_of_this_computer(row.hub)


def shared_out(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Hub -> its new number of workers, for those that change: the latest shrink first, and the first one grows."""
    changed: dict[str, int] = {}
    more = total - sum(sizes.values())
    if more > 0:
        first = next(iter(sizes))
        return {first: sizes[first] + more}
    for hub, size in reversed(list(sizes.items())):
        fewer = min(size, -more)
        if fewer:
            changed[hub] = size - fewer
            more += fewer
    return changed
