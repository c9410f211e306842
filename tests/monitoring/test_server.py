"""The Monitor's server: addresses, ports, prefixes, logins, and the names under which it answers."""

from __future__ import annotations

import json
import logging
import socket
import urllib.parse
import urllib.request

import pytest
from tornado.websocket import WebSocketClosedError

from nblb.errors import NblbError, NotAllowed
from nblb.monitoring import server as monitor
from nblb.parameters import load
from tests.monitoring.fake_source import FakeSource
from tests.monitoring.served import served


def test_liveness_answers() -> None:
    with served(FakeSource()) as url, urllib.request.urlopen(f"{url}liveness?endpoint=/", timeout=10) as answer:
        assert json.load(answer) == {"/": True}


def test_prefix() -> None:
    with served(FakeSource(), prefix="user/anna/nblb") as url:
        assert url.endswith("/user/anna/nblb/")
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"LoadBalancer Monitor" in answer.read()


@pytest.mark.parametrize("prefix", ["", "user/anna"])
def test_it_asks_for_the_text_of_MONITOR_AUTH(prefix: str) -> None:
    with served(FakeSource(), {"MONITOR_AUTH": "open sesame"}, prefix=prefix) as url:
        cookies = urllib.request.HTTPCookieProcessor()
        browser = urllib.request.build_opener(cookies)

        def get(data: dict[str, str] | None = None) -> str:
            body = urllib.parse.urlencode(data).encode() if data else None
            with browser.open(f"{url}login" if data else url, body, timeout=10) as answer:
                return str(answer.read().decode())

        assert "MONITOR_AUTH asks for" in get()
        assert "https://" not in get(), "nothing is loaded from other computers"
        assert "That is not the text" in get({"username": "monitor", "password": "guess"})
        assert not [cookie for cookie in cookies.cookiejar if cookie.name == "user"]  # type: ignore[attr-defined]
        assert "LoadBalancer Monitor" in get({"username": "monitor", "password": "open sesame"})
        assert "MONITOR_AUTH" not in get()


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7", "::", "lab.example.org"])
def test_beyond_this_computer_is_refused(address: str) -> None:
    with pytest.raises(NotAllowed, match="no encrypted login yet"):
        monitor.open_server(load({"MONITOR_IP": address}))


def test_a_port_that_is_taken_is_passed_over() -> None:
    """The start has found it free, but another Monitor was faster."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server, poller, url = monitor.open_server(load({"MONITOR_PORT": port}))
        try:
            assert port < int(url.rstrip("/").rpartition(":")[2]) <= port + monitor.MOST_PORTS
        finally:
            poller.stop()
            server.stop()


def test_no_port_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "MOST_PORTS", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NblbError, match=f"MONITOR_PORT {port} on 127.0.0.1 cannot be used"):
            monitor.open_server(load({"MONITOR_PORT": port}))


@pytest.mark.skipif(not socket.has_ipv6, reason="this computer has no IPv6")
def test_it_serves_an_address_of_ipv6() -> None:
    with served(FakeSource(), {"MONITOR_IP": "::1"}) as url:
        assert url.startswith("http://[::1]:")
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"LoadBalancer Monitor" in answer.read()


def test_a_closed_page_is_no_line_in_the_log() -> None:
    closed = WebSocketClosedError()
    for name, words, raised in (
        ("asyncio", "Task exception was never retrieved", (WebSocketClosedError, closed, None)),
        ("bokeh.server.views.ws", "Failed sending message as connection was closed", None),
    ):
        assert not monitor._is_no_closed_page(logging.LogRecord(name, 40, "", 0, words, (), raised))
    assert monitor._is_no_closed_page(logging.LogRecord("asyncio", 40, "", 0, "a fault", (), None))
