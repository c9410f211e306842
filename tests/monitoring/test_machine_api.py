"""What the Monitor's server answers to programs: figures for Prometheus, JSON, its description, and readiness."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from nblb.monitoring import machine_api
from tests.monitoring.fake_source import FakeSource
from tests.monitoring.served import served


def get(url: str, **headers: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_every_resource_answers_and_is_described() -> None:
    source = FakeSource()
    with served(source) as url:
        status, schema = get(f"{url}api/openapi.json")
        assert (status, schema["openapi"]) == (200, "3.1.0")
        for name in machine_api.RESOURCES:
            query = {"job": "?job=j1", "task": "?task=t000001"}.get(name, "")
            assert get(f"{url}api/{name}{query}")[0] == 200, name
            assert schema["paths"][f"/api/{name}"]["get"]["operationId"] == name
        assert set(get(f"{url}api/")[1]["resources"]) == set(machine_api.RESOURCES)


def test_parameters_are_passed_on_and_wrong_ones_refused() -> None:
    source = FakeSource()
    with served(source) as url:
        status, page = get(f"{url}api/tasks?user=anna&offset=100&limit=3&descending=true&sort=duration")
        assert status == 200
        assert len(page["rows"]) == 3
        assert source.abouts["page"] == {
            "user": "anna",
            "offset": 100,
            "limit": 3,
            "descending": True,
            "sort": "duration",
        }
        for query, words in (
            ("colour=red", "is not a parameter"),
            ("limit=many", "must be a number"),
            ("limit=5000", "from 0 to 200"),
            ("descending=yes", "true or false"),
        ):
            status, answer = get(f"{url}api/tasks?{query}")
            assert (status, words in answer["error"]) == (400, True), answer
        assert get(f"{url}api/nonsense")[0] == 404
        assert get(f"{url}api/task?task=gone")[0] == 404


def test_nothing_can_be_changed() -> None:
    source = FakeSource()
    with served(source) as url:
        for method in ("POST", "PUT", "DELETE"):
            request = urllib.request.Request(f"{url}api/jobs", b"{}", method=method)
            with pytest.raises(urllib.error.HTTPError) as raised:
                urllib.request.urlopen(request, timeout=10)
            assert raised.value.code in (403, 405)
        assert source.orders == []


def test_health_and_ready() -> None:
    source = FakeSource()
    with served(source, {"MONITOR_AUTH": "secret"}) as url:
        assert get(f"{url}health") == (200, {"ok": True, "version": get(f"{url}health")[1]["version"]})
        assert get(f"{url}ready") == (200, {"ready": True, "workers": 8})
        source.worker_count = 0
        from tests.waiting import wait_until

        wait_until(
            lambda: get(f"{url}ready") == (503, {"ready": False, "reason": "LB HAS NO WORKERS"}), 10, "no workers"
        )
        source.away = True
        wait_until(lambda: get(f"{url}ready")[1]["reason"] == "the core does not answer", 10, "no core")
        assert get(f"{url}health")[0] == 200


def test_the_password_is_asked_for() -> None:
    with served(FakeSource(), {"MONITOR_AUTH": "secret"}) as url:
        for path in ("api/status", "metrics"):
            assert get(f"{url}{path}")[0] == 401
            assert get(f"{url}{path}", Authorization="Bearer guess")[0] == 401
            assert get(f"{url}{path}", Authorization="Basic !!")[0] == 401
        basic = base64.b64encode(b"anybody:secret").decode()
        assert get(f"{url}api/status", Authorization=f"Basic {basic}")[0] == 200
        assert get(f"{url}api/status", Authorization="Bearer secret")[0] == 200


def test_metrics() -> None:
    with served(FakeSource()) as url, urllib.request.urlopen(f"{url}metrics", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    assert "nblb_up 1.0" in text
    assert 'nblb_user_queued{user="anna"} 3000.0' in text


def test_the_core_away() -> None:
    source = FakeSource()
    source.away = True
    with served(source) as url:
        assert get(f"{url}api/status")[0] == 503
        with urllib.request.urlopen(f"{url}metrics", timeout=20) as answer:
            assert b"nblb_up 0.0" in answer.read()


def test_with_a_prefix() -> None:
    with served(FakeSource(), prefix="user/anna/nblb") as url:
        assert get(f"{url}api/status")[0] == 200
        assert get(f"{url}api/openapi.json")[1]["servers"] == [{"url": "/user/anna/nblb"}]


def test_a_login_of_the_pages_guards_the_answers_too() -> None:
    with served(FakeSource(), basic_auth={"anna": "secret"}) as url:
        assert get(f"{url}api/status")[0] == 401
        assert get(f"{url}api/status", Authorization="Bearer ")[0] == 401
        assert get(f"{url}metrics", Authorization="Basic Og==")[0] == 401
        assert get(f"{url}health")[0] == 200
