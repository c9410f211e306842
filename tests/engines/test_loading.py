"""Engines by their names, and names that are none."""

from __future__ import annotations

import pytest

from nblb.engines.executor_engine import ExecutorEngine
from nblb.engines.loading import load
from nblb.errors import NblbError


def test_an_executor_by_the_name_of_what_makes_it() -> None:
    engine = load("concurrent.futures:ThreadPoolExecutor", {})
    assert isinstance(engine, ExecutorEngine)
    assert engine.capabilities == {"cancel_queued", "scale"}
    engine.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ray", 'there is no engine \'ray\': it must be "processes", "dask", or "module:callable"'),
        ("nowhere:make", "the engine 'nowhere:make' cannot be loaded: No module named 'nowhere'"),
        ("os:nothing", "cannot be loaded: .* has no attribute 'nothing'"),
        ("os:sep", "is a str; it must be callable"),
    ],
)
def test_names_that_are_none(name: str, sentence: str) -> None:
    with pytest.raises(NblbError, match=sentence):
        load(name, {})


def test_a_callable_that_makes_something_else() -> None:
    engine = load("builtins:dict", {})
    with pytest.raises(NblbError, match="returns dict, which is no Executor"):
        engine.start(1, lambda event: None)
    engine.close()
