"""Requests for another site's page get nothing from the Monitor, whatever address that site's name has."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest

from nblb.monitoring.known_hosts import is_known
from tests.monitoring.fake_source import FakeSource
from tests.monitoring.served import served


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:9000", "127.8.8.8", "[::1]:9000", "a.b:80"])
def test_known(host: str) -> None:
    assert is_known(host, ["a.b:80"])


@pytest.mark.parametrize(
    "host",
    ["evil.example:9000", "localhost.evil.example", "127.0.0.1.evil.example", "a.b:81", "x.a.b:80", "[::1", "", "null"],
)
def test_unknown(host: str) -> None:
    assert not is_known(host, ["a.b:80"])


def status(url: str, path: str, **headers: str) -> int:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def test_rebound_names_are_refused_everywhere() -> None:
    with served(FakeSource(), allow_websocket_origin=["lab.example:443"]) as url:
        port = urlsplit(url).port
        paths = ("/", "/monitor", "/liveness?endpoint=/", "/autoload.js", "/static/js/bokeh.min.js", "/nothing")
        for path in paths:
            assert status(url, path, Host=f"evil.example:{port}") == 403
            assert status(url, path, Origin=f"http://evil.example:{port}") == 403
            assert status(url, path, Origin="null") == 403
        assert status(url, "/ws", Host=f"evil.example:{port}", Origin=f"http://evil.example:{port}", **UPGRADE) == 403
        assert status(url, "/ws", Origin=f"http://evil.example:{port}", **UPGRADE) == 403
        for known in (f"localhost:{port}", f"127.0.0.1:{port}", "localhost:8888", "lab.example:443"):
            assert status(url, "/", Host=known) == 200
        assert status(url, "/", Origin=f"http://localhost:{port}") == 200


def test_pages_behind_jupyters_proxy_are_served_and_answers_for_programs_are_not() -> None:
    """The proxy has checked its user. A script could send its header, but open no WebSocket with it."""
    with served(FakeSource()) as url:
        proxied = {"Host": "hub.example.org", "X-ProxyContextPath": "/user/anna/proxy/9000"}
        assert status(url, "/", **proxied) == 200
        assert status(url, "/ws", **proxied, **UPGRADE) != 403
        for path in ("/api/status", "/metrics"):
            assert status(url, path, **proxied) == 403
