"""The API against its own description, by schemathesis: a real core, and values that fit the description or do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

import nblb as lb
from tests.monitoring.served import served

EXAMPLES = 15  # of each resource; always the same ones


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description that a Monitor of a running cluster gives, with a job that has ended."""
    folder = tmp_path_factory.mktemp("api")
    ports = dict.fromkeys(("LB_WKPULLPORT", "LB_HCREPPORT", "LB_CLIENTPULLPORT", "WKHUB_LBPORT", "WKHUB_HCPORT"), 0)
    parameters = {"LB_NAME": "t", "LB_STATE_DIR": str(folder / "state"), **ports}

    @lb.task
    def fit(x: int) -> int:
        return 8 // x

    with lb.start(parameters, workers=1, monitor=False):
        fit.map(range(4), job="fits").wait()
        with served(None, parameters) as url:
            yield schemathesis.openapi.from_url(f"{url}api/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any) -> None:
    case.call_and_validate()
