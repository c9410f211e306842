"""Fixtures of the client's tests: a cluster with a fake core."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nblb import parameters
from nblb.client import open_clusters
from nblb.client.cluster import Cluster
from nblb.client.connection.connection import Connection
from nblb.client.connection.locate import hello
from tests.client.fake_core import FakeCore


@pytest.fixture
def core() -> FakeCore:
    return FakeCore()


@pytest.fixture
def make_cluster(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Cluster]]:
    """Makes clusters on the one fake core, each as a kernel of its own would have it."""
    made: list[Cluster] = []
    monkeypatch.setattr("nblb.client.cluster.find_core", lambda parameters: "fake://core")
    monkeypatch.setattr(Cluster, "_connect", lambda self: Connection(lambda: "fake://core", hello("me"), core.dial))

    def make() -> Cluster:
        made.append(Cluster(parameters.load({"LB_NAME": "fake"})))
        return made[-1]

    yield make
    core.up = True
    for cluster in made:
        cluster._connection.close(0.0)
        assert not cluster._connection._thread.is_alive()
        open_clusters.forget(cluster)


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each single call is a record of its own, however fast they follow; test_batch.py is about those that are not."""
    monkeypatch.setattr("nblb.client.submit.submit.gather", lambda *call: None)


@pytest.fixture
def cluster(make_cluster: Callable[[], Cluster]) -> Cluster:
    return make_cluster()
