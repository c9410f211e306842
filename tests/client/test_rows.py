"""The answers of a cluster, as typed objects that are also dicts."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

from nblb.client.cluster import Cluster
from nblb.client.futures.single_tasks import TaskRow
from nblb.client.rows import ClusterStatus, CoreInfo, HubInfo, JobInfo, Row, UserInfo, WorkerInfo

KINDS = (ClusterStatus, CoreInfo, HubInfo, JobInfo, TaskRow, UserInfo, WorkerInfo)
HUB = {"hub": "h1", "name": "lab1", "host": "lab1", "pid": 7, "workers": 2, "busy": 1, "state": "up"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_a_frozen_dataclass_with_typed_documented_fields(kind: type[Row]) -> None:
    assert dataclasses.is_dataclass(kind)
    text = kind.__doc__ or ""
    described = {name.strip() for line in text.splitlines() for name in line.split(",") if line.startswith("    ")}
    for field in dataclasses.fields(kind):
        assert field.type != "Any"
        assert field.name in described, f"{kind.__name__}.{field.name}"
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), dataclasses.fields(kind)[0].name, 1)


def test_it_is_a_dict_as_before() -> None:
    hub = HubInfo(HUB)
    assert (hub.name, hub["name"], hub.get("pid"), hub.get("nothing", 3)) == ("lab1", "lab1", 7, 3)
    assert "busy" in hub
    assert "nothing" not in hub
    assert {**hub} == dict(hub) == {key: hub[key] for key in hub} == json.loads(json.dumps(hub))
    assert HUB.items() <= hub.items()
    assert dataclasses.replace(hub, workers=5).workers == 5
    assert {name: dataclasses.asdict(hub)[name] for name in HUB} == HUB
    for same in (copy.copy(hub), copy.deepcopy(hub), pickle.loads(pickle.dumps(hub))):
        assert (type(same), same, same.workers) == (HubInfo, hub, 2)


def test_what_cannot_be_changed_is_refused() -> None:
    hub = HubInfo(HUB)
    changes = (lambda: hub.update(pid=1), lambda: hub.pop("pid"), hub.clear, lambda: hub.__setitem__("pid", 1))
    for change in changes:
        with pytest.raises(TypeError, match="cannot be changed; dict"):
            change()
    assert not {"update", "pop", "clear"} & {*dir(hub)}
    assert {"name", "workers"} <= {*dir(hub)}


def test_an_unknown_attribute_gets_a_hint() -> None:
    with pytest.raises(AttributeError, match=r"this HubInfo has no 'worker'; did you mean workers\?"):
        HubInfo(HUB).worker  # noqa: B018
    with pytest.raises(AttributeError, match="this UserInfo has no 'xyz'; it has user, name, role, group, share"):
        UserInfo().xyz  # noqa: B018


def test_a_newer_and_an_older_core() -> None:
    hub = HubInfo({**HUB, "gpus": 2})
    assert (hub.gpus, hub["gpus"], "gpus" in dir(hub)) == (2, 2, True)
    assert (hub.engine, hub.groups, hub["groups"]) == ("processes", [], [])
    assert HubInfo().groups is not HubInfo().groups


def test_the_number_of_items_and_the_method_of_dicts() -> None:
    row = JobInfo({"name": "sweep", "items": 200, "state": "done"})
    assert (row["items"], row.n_items, dict(row.items())["items"]) == (200, 200, 200)
    assert dataclasses.replace(row, n_items=3)["items"] == 3
    assert "n_items" not in row


def test_a_cluster_answers_with_them(cluster: Cluster) -> None:
    assert isinstance(cluster.status(), ClusterStatus)
    assert isinstance(cluster.status().core, CoreInfo)
    assert cluster.status().core.pid == cluster.status()["core"]["pid"] == 1
    assert {type(hub) for hub in cluster.hubs()} == {HubInfo}
    assert ClusterStatus({"core": "abc", "pid": 3}).core == {**CoreInfo(), "id": "abc", "pid": 3}
