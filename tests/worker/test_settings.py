"""WorkerSettings: a misspelt or missing setting is an error, in the hub and in the worker."""

from __future__ import annotations

import json

import msgspec
import pytest

from nblb.hub.pool.memory_watch import MemoryWatch
from nblb.hub.worker_hub import WorkerHub
from nblb.worker.settings import WorkerSettings
from tests.hub.pool_rig import worker_settings


def on_the_way(settings: WorkerSettings) -> dict[str, object]:
    """What the fork server receives."""
    return json.loads(json.dumps(msgspec.to_builtins(settings)))  # type: ignore[no-any-return]


def test_they_arrive_as_they_were() -> None:
    settings = worker_settings(env={"A": "\udc80", "B": ""}, memory_mb=7, niceness=-3)
    assert msgspec.convert(on_the_way(settings), WorkerSettings) == settings


def test_every_setting_of_a_group_arrives() -> None:
    group = {"nWorkers": 1, "processP": 5, "env": {"A": "b"}, "memory_mb": 99, "max_rss_mb": 88}
    hub = WorkerHub({"WKHUB_WORKERS": [group], "LB_MAX_MESSAGE_MB": 77})
    [settings] = hub._worker_settings()
    sent = msgspec.convert(on_the_way(settings), WorkerSettings)
    assert (sent.niceness, sent.env, sent.memory_mb, sent.max_rss_mb) == (5, {"A": "b"}, 99, 88)
    assert (sent.max_message_mb, sent.parameters) == (77, hub.parameters)


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(WorkerSettings)])
def test_a_setting_left_out_is_an_error(name: str) -> None:
    sent = on_the_way(worker_settings())
    del sent[name]
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(sent, WorkerSettings)
    with pytest.raises(TypeError, match=name):
        WorkerSettings(**sent)  # type: ignore[arg-type]


def test_a_misspelt_setting_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError, match="memory_nb"):
        msgspec.convert({**on_the_way(worker_settings()), "memory_nb": 5}, WorkerSettings)
    with pytest.raises(TypeError, match="memory_nb"):
        worker_settings(memory_nb=5)
    assert (
        MemoryWatch([worker_settings(memory_mb=5)], lambda *_: None)._pause_s
        < MemoryWatch([worker_settings()], lambda *_: None)._pause_s
    )
