"""The functions that a worker keeps loaded are bounded by the size of what they captured."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from nblb import payload
from nblb.protocol.messages import HoldBlob
from nblb.worker import calling
from nblb.worker.channel import pack, to_worker


def held(blobs: calling.Blobs, function: Any) -> str:
    name, dumped = payload.dump_function(function)
    parcel = pack(to_worker, 0, HoldBlob(hash=name, payload=dumped))
    assert blobs.take(parcel.datagram, parcel.fd) is None
    return name


def capturing(number: int) -> Any:
    text = str(number) * 1000
    return lambda: text


def test_the_longest_unused_go_first_and_the_latest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "LOADED_BYTES", payload.dump_function(capturing(0))[1].nbytes * 3 + 100)
    blobs = calling.Blobs()
    names = [held(blobs, capturing(number)) for number in range(5)]
    loaded = []
    for name in names:
        blobs.function(names[0])  # used again and again
        loaded.append(weakref.ref(blobs.function(name)[0]))
    gc.collect()
    assert loaded[0]() is not None
    assert loaded[1]() is None
    assert loaded[4]() is not None
    monkeypatch.setattr(calling, "LOADED_BYTES", 10)
    assert blobs.function(names[2])[0]() == "2" * 1000
    gc.collect()
    assert loaded[0]() is None
    assert blobs.function(names[2])[0] is blobs.function(names[2])[0]
