"""The options of cluster.add_hub, checked before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.errors import NblbError
from nblb.launch.elsewhere import HubOptions, checked


def test_options_that_are_none_are_the_defaults() -> None:
    assert checked({"workers": None, "host": None, "engine": None, "make_venv": False}) == HubOptions()
    assert not checked({}).is_elsewhere
    assert checked({"host": "lab2", "make_venv": True}).is_elsewhere
    assert checked({"slurm": ""}).is_elsewhere  # sbatch without options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"gpus": 1},
            "has no option 'gpus'; it has workers, host, python, .*, backlog, only, engine and engine_options",
        ),
        ({"python": "python3"}, "python and make_venv are for a hub on another computer"),
        ({"host": "lab2", "slurm": ""}, "host and slurm exclude each other"),
        ({"hubs": 2}, "hubs and backlog are for hubs in Slurm"),
        ({"engine": "dask", "host": "lab2"}, "an engine has computers of its own"),
        ({"engine_options": {}}, "engine_options are for an engine"),
    ],
)
def test_options_that_make_no_sense_together(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        checked(options)


def test_engines_by_name_and_a_dask_cluster_object() -> None:
    class Cluster:
        scheduler_address = "tcp://10.0.0.1:8786"

    assert checked({"engine": "processes"}) == HubOptions()
    assert checked({"engine": "dask"}).arguments() == ("--engine=dask", "--engine-options={}")
    object_ = checked({"engine": Cluster()})
    assert (object_.engine, object_.engine_options) == ("dask", {"address": "tcp://10.0.0.1:8786"})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "ray"}, "there is no engine 'ray'; there are 'processes', 'dask'"),
        ({"engine": 7}, "there is no engine 7"),
        ({"engine": "dask", "engine_options": {"security": object()}}, "the options of the engine 'dask' must be JSON"),
    ],
)
def test_engines_that_do_not_exist(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NblbError, match=sentence):
        checked(options)
