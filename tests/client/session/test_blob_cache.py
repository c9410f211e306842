"""A session keeps the blobs of open submissions, and as many others as fit."""

from __future__ import annotations

import pytest

from nblb.client.session import blob_cache
from nblb.client.session.blob_cache import SessionBlobs
from nblb.protocol.framing import Payload
from nblb.protocol.messages import PutBlob


@pytest.fixture(autouse=True)
def room_for_ten_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_cache, "IDLE_BYTES", 10)


def blob(name: str, nbytes: int = 4) -> PutBlob:
    return PutBlob(hash=name, payload=Payload((b"x" * nbytes,)))


def test_the_oldest_idle_blob_goes_first() -> None:
    blobs = SessionBlobs()
    for name in ("a", "b", "c"):
        blobs.put(blob(name))
    assert list(blobs) == ["b", "c"]


def test_what_an_open_record_names_stays_and_is_dropped_after_its_last_record() -> None:
    blobs = SessionBlobs()
    blobs.put(blob("a", 9))
    blobs.use(["a"])
    blobs.use(["a"])
    blobs.put(blob("b", 9))
    assert list(blobs) == ["a", "b"]
    blobs.release(["a"])
    assert "a" in blobs
    blobs.release(["a"])
    assert list(blobs) == ["b"]


def test_a_blob_that_has_just_come_is_kept_however_large() -> None:
    blobs = SessionBlobs()
    blobs.put(blob("large", 100))
    assert "large" in blobs
    blobs.put(blob("next"))
    assert list(blobs) == ["next"]


def test_one_that_is_here_already_is_not_counted_twice() -> None:
    blobs = SessionBlobs()
    for _ in range(3):
        blobs.put(blob("a", 9))
    assert list(blobs) == ["a"]


def test_a_record_may_name_what_is_not_here() -> None:
    blobs = SessionBlobs()
    blobs.use(["elsewhere"])
    blobs.release(["elsewhere"])
    assert not blobs
