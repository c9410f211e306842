"""The peak of memory of each slice, not of the worker's whole life."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nblb.worker.peak_memory import PeakMemory

MIB = 1024 * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not count it")
def test_each_begin_starts_at_the_present_memory() -> None:
    peak = PeakMemory()
    peak.begin()
    before = peak.nbytes
    assert before > MIB
    large = bytearray(128 * MIB)
    del large
    assert peak.nbytes >= before + 100 * MIB
    peak.begin()
    assert peak.nbytes < before + 64 * MIB


def test_where_it_cannot_be_counted_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refused)
        peak = PeakMemory()
    peak.begin()
    assert peak.nbytes == 0
