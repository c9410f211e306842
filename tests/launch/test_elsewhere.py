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
        ({"gpus": 1}, "has no option 'gpus'; it has workers, host, python, make_venv, slurm, hubs, backlog and engine"),
        ({"python": "python3"}, "python and make_venv are for a hub on another computer"),
        ({"host": "lab2", "slurm": ""}, "host and slurm exclude each other"),
        ({"hubs": 2}, "hubs and backlog are for hubs in Slurm"),
    ],
)
def test_options_that_make_no_sense_together(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        checked(options)


def test_an_engine_that_does_not_exist() -> None:
    with pytest.raises(NblbError, match="the engine 'dask' does not exist yet"):
        checked({"engine": "dask"})
