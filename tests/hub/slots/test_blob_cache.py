"""The blob cache of a hub: blobs that a slice lacks, results in pieces, and eviction."""

from __future__ import annotations

from nblb.hub.slots.attempts import Attempt
from nblb.hub.slots.blob_cache import MAX_LARGE, BlobCache
from nblb.protocol.framing import LARGE, Payload
from nblb.protocol.messages import HoldBlob, RunTask


def order(function: str = "f", constants: tuple[str, ...] = (), depends: tuple[str, ...] = ()) -> RunTask:
    return RunTask(
        task="t", attempt=1, name="f", function=function, payload=Payload(), constants=constants, depends=depends
    )


def hold(name: str, nbytes: int = 1, **piece: int) -> HoldBlob:
    return HoldBlob(hash=name, payload=Payload((b"x" * nbytes,)), **piece)


def waiting(cache: BlobCache, run: RunTask) -> Attempt:
    attempt = Attempt(run, 1, None)
    attempt.missing = cache.missing(run, 1)
    return attempt


def test_a_slice_waits_for_all_that_it_lacks_and_each_blob_is_asked_for_once() -> None:
    cache = BlobCache(1000)
    cache.put(hold("c"))
    one, two = waiting(cache, order("f", ("c", "d"))), waiting(cache, order("f"))
    assert one.missing == {"f", "d"}
    assert (cache.wait(one), cache.wait(two)) == (["d", "f"], [])
    assert cache.put(hold("f")) == [two]
    assert cache.put(hold("d")) == [one]
    assert cache.wanted == []
    assert cache.missing(order("f"), 2) is None


def test_results_in_pieces_are_complete_when_each_item_has_come() -> None:
    cache = BlobCache(1000)
    attempt = waiting(cache, order("f", depends=("r",)))
    cache.wait(attempt)
    cache.put(hold("f"))
    first, last = hold("r", first=0, items=2, total=3), hold("r", first=2, items=1, total=3)
    assert cache.put(first) == []
    assert not cache.wants(first)
    assert cache.wants(last)
    assert cache.put(last) == [attempt]
    assert not cache.wants(last)


def test_what_nobody_has_is_waited_for_no_more() -> None:
    cache = BlobCache(1000)
    attempt = waiting(cache, order("f", ("c",)))
    cache.wait(attempt)
    assert cache.abandon("c") == [attempt]
    assert cache.put(hold("f")) == []


def test_the_longest_unused_goes_first_but_nothing_that_is_in_hand_or_the_hubs_own() -> None:
    cache = BlobCache(10)
    cache.pin("own")
    for name in ("a", "b", "c"):
        cache.put(hold(name, 5))
    for arrival, name in enumerate(("b", "c", "a")):
        cache.missing(order("f", (name,)), arrival)
    held = Attempt(order("f", ("b",)), 1, None)
    assert cache.evict([held]) == ["c"]
    assert cache.evict([held]) == []
    assert cache.wants(hold("c"))
    assert not cache.wants(hold("own"))


def test_large_blobs_are_bounded_by_number() -> None:
    cache = BlobCache(10**12)
    for number in range(MAX_LARGE + 2):
        cache.put(HoldBlob(hash=str(number), payload=Payload((bytes(LARGE),))))
    assert len(cache.evict([])) == 2
