"""LB_MAX_MESSAGE_MB holds for what is submitted as it does for results."""

from __future__ import annotations

import numpy as np
import pytest

import nblb as lb
from nblb.client.cluster import Cluster
from nblb.parameters import load


def test_a_large_argument_is_refused_where_it_is_submitted(cluster: Cluster) -> None:
    cluster.parameters = load({"LB_MAX_MESSAGE_MB": 2})
    large, small = np.zeros(400_000), np.zeros(100_000)
    for submit in (
        lambda: lb.task(len).submit(large),
        lambda: lb.task(len).submit(b"x" * large.nbytes),
        lambda: lb.task(len).map([small, large]),
        lambda: lb.task(len).map([b"x" * large.nbytes]),
        lambda: lb.task(len).map([[large]], chunksize=1),
        lambda: lb.task(len).submit(lb.put(large)),
        lambda: lb.task(lambda: large).submit(),
        lambda: lb.task(lambda x: large).map([1]),
        lambda: cluster.executor().submit(len, large).result(10),
    ):
        with pytest.raises(lb.NotSerializable, match=r"LB_MAX_MESSAGE_MB allows 2 MiB"):
            submit()  # type: ignore[no-untyped-call]
    assert lb.task(len).submit(small).result(10) == 100_000
    assert lb.task(len).map([small] * 6, job="together larger").results(10) == [100_000] * 6
