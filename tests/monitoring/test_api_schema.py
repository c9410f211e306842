"""The API against its own description, by schemathesis: a real core, and values that fit the description or do not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

import nblb as lb
from nblb.monitoring.machine_api import RESOURCES
from nblb.parameters import Parameters
from tests.monitoring.served import served

EXAMPLES = 15  # of each resource; always the same ones


@pytest.fixture
def api(parameters: Parameters) -> Iterator[Any]:
    """The description that a Monitor of a running cluster gives, with a job that has ended."""

    @lb.task
    def fit(x: int) -> int:
        return 8 // x

    with lb.start(parameters, workers=1, monitor=False):
        fit.map(range(4), job="fits").wait()
        with served(None, parameters) as url:
            yield schemathesis.openapi.from_url(f"{url}api/openapi.json")


FIXED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PATHS = [*(f"/api/{name}" for name in RESOURCES), "/health", "/ready", "/metrics"]


def test_every_answer_is_as_described(api: Any) -> None:
    """One test for all, since a cluster of its own for each would take minutes."""
    for path, mode in itertools.product(PATHS, GenerationMode):
        operation = api[path]["GET"]
        if mode is GenerationMode.NEGATIVE and not list(operation.query):
            continue  # it has no parameters that could be wrong

        @FIXED
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            case.call_and_validate()

        check()
