"""The gate: links, cookies, passwords, other accounts, other sites, and what each role may do."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from nblb.access.key_file import KeyFile
from nblb.access.key_store import Party
from nblb.access.monitor_token import MonitorRole, MonitorToken, signed
from nblb.host import account
from nblb.monitoring.login import peer_account
from tests.monitoring.fake_source import FakeSource
from tests.monitoring.served import served

KEY = os.urandom(32)
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
PROXIED = {"Host": "hub.example.org", "X-ProxyContextPath": "/user/anna/proxy/9000"}


class Reply:
    """An answer of the server: status, headers and text."""

    def __init__(self, url: str, path: str, method: str = "GET", body: str = "", **headers: str) -> None:
        place = urlsplit(url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            self.status, self.headers = answer.status, answer.headers
            self.text = "" if answer.status == 101 else answer.read().decode()
        finally:
            connection.close()

    @property
    def place(self) -> str:
        return self.headers.get("Location", "")

    @property
    def cookie(self) -> dict[str, str]:
        return {"Cookie": self.headers["Set-Cookie"].partition(";")[0]}


def link(name: str = "anna", role: MonitorRole = "viewer", lives_s: float = 60.0) -> str:
    return signed(KEY, MonitorToken("link", name, role, time.time() + lives_s, 3600.0))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another account asks."""
    monkeypatch.setattr(peer_account, "peer_account", lambda _here, _there: os.getuid() + 1)


@pytest.fixture
def monitor(elsewhere: None, tmp_path: Path) -> Iterator[str]:
    with served(FakeSource(), {"LB_STATE_DIR": str(tmp_path)}, key=lambda: KEY) as url:
        yield url


def test_this_account_needs_no_login() -> None:
    with served(FakeSource(), key=lambda: KEY) as url:
        assert Reply(url, "/").status == 200
        assert Reply(url, "/api/status").status == 200
        assert Reply(url, "/api/status", **{"X-Forwarded-For": "203.0.113.9"}).status == 401
        assert Reply(url, "/ws", **UPGRADE).status != 401


@pytest.mark.skipif(os.getuid() != 0 or not sys.platform.startswith("linux"), reason="needs root and Linux")
def test_another_account_of_this_computer_gets_nothing() -> None:
    with served(FakeSource(), key=lambda: KEY) as url:
        port = urlsplit(url).port
        answers = {"/": "302", "/monitor": "302", "/metrics": "401", "/autoload.js": "401", "/health": "200"}
        answers |= {"/api/status": "401", "/static/js/bokeh.min.js": "401"}
        for path, wanted in answers.items():
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                os.setuid(1)
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
                    os.write(writer, connection.recv(12)[-3:])
                os._exit(0)
            os.waitpid(child, 0)
            assert os.read(reader, 3).decode() == wanted, path
            os.close(reader)
            os.close(writer)


def test_a_link_opens_the_page_once_and_the_cookie_afterwards(monitor: str) -> None:
    for path in ("/", "/?page=tasks", "/monitor?job=3"):
        asked = Reply(monitor, path)
        assert (asked.status, asked.place.partition("?")[0]) == (302, "login")
    first = Reply(monitor, f"/?page=tasks&token={link()}&user=a%26b")
    assert (first.status, first.place) == (302, "./?page=tasks&user=a%26b")
    given = first.headers["Set-Cookie"]
    assert "HttpOnly" in given
    assert "SameSite=Lax" in given
    assert "Path=/" in given
    cookie = first.cookie
    page = Reply(monitor, "/?page=tasks", **cookie)
    assert (page.status, "LoadBalancer Monitor" in page.text) == (200, True)
    assert Reply(monitor, "/api/status", **cookie).status == 200
    assert Reply(monitor, "/ws", **cookie, **UPGRADE).status != 401
    assert Reply(monitor, "/ws", **UPGRADE).status == 401
    assert "frame-ancestors 'self'" in page.headers["Content-Security-Policy"]
    out = Reply(monitor, "/logout", **cookie)
    assert re.search(r'nblb-monitor-\d+="";', out.headers["Set-Cookie"])


def test_a_token_is_in_no_log_and_no_page(monitor: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token, old = link(), link(lives_s=-1)
    first = Reply(monitor, f"/?token={token}")
    pages = [first.place, Reply(monitor, "/", **first.cookie).text, Reply(monitor, f"/?token={old}").text]
    pages.append(Reply(monitor, f"/api/status?token={token}").text)
    assert not [page for page in pages if token in page or old in page]
    assert token not in caplog.text
    assert old not in caplog.text


def test_bad_links_are_refused_in_a_sentence(monitor: str) -> None:
    for token, words in (
        (link(lives_s=-1), "This link has expired"),
        (link()[:-3], "not of this Monitor"),
        ("", "login"),
        (signed(KEY, MonitorToken("login", "anna", "admin", time.time() + 9)), "is not a link"),
        ("<script>alert(1)</script>", "not of this Monitor"),
    ):
        reply = Reply(monitor, f"/?token={quote(token)}")
        assert words in reply.text + reply.place
        assert "Set-Cookie" not in reply.headers
        assert "<script>" not in reply.text


def test_a_pasted_link_logs_in_and_next_leads_to_no_other_site(monitor: str) -> None:
    right = Reply(
        monitor, "/login", "POST", f"password={quote('http://127.0.0.1:9/?token=' + link())}&next=monitor%3Fjob%3D3"
    )
    assert (right.status, right.place) == (302, "monitor?job=3")
    for next_ in ("//evil.example/", "https://evil.example", "/\\evil.example", "javascript:alert(1)"):
        reply = Reply(monitor, "/login", "POST", f"password={link()}&next={quote(next_)}")
        assert (reply.status, reply.place) == (302, "./")
        assert "evil" not in reply.place
    wrong = Reply(monitor, "/login", "POST", "password=guess&next=%22%3E%3Cscript%3E")
    assert "That is not right" in wrong.text
    assert "<script>" not in wrong.text


def test_programs_use_a_token_as_bearer(monitor: str) -> None:
    assert Reply(monitor, "/metrics", Authorization=f"Bearer {link()}").status == 200
    assert Reply(monitor, "/metrics", Authorization=f"Bearer {link(lives_s=-1)}").status == 401
    assert Reply(monitor, f"/metrics?token={link()}").status == 401, "an address is written to logs"
    assert json.loads(Reply(monitor, "/api/status").text)["error"].startswith("a login is needed")


def test_a_login_ends_with_the_key_of_its_name(monitor: str, tmp_path: Path) -> None:
    cookie = Reply(monitor, f"/?token={link('anna')}").cookie
    file = KeyFile(tmp_path)
    file.store.keys.parties.append(Party("0" * 40, "anna", "user"))
    file.store = type(file.store)(file.store.keys)
    file.save()
    assert Reply(monitor, "/api/status", **cookie).status == 200
    file.store.revoke("anna", ("user",), "left")
    file.save()
    assert Reply(monitor, "/api/status", **cookie).status == 401
    assert "was revoked" in Reply(monitor, f"/?token={link('anna')}").text


def test_nobody_else_makes_a_cookie(monitor: str) -> None:
    name = Reply(monitor, f"/?token={link()}").cookie["Cookie"].partition("=")[0]
    for value in (link(), "x", "", signed(os.urandom(32), MonitorToken("login", "root", "admin", time.time() + 9))):
        assert Reply(monitor, "/api/status", Cookie=f"{name}={value}").status == 401
    forged = signed(os.urandom(32), MonitorToken("page", "root", "admin", time.time() + 9))
    assert Reply(monitor, "/", **{"X-Nblb-Viewer": forged}).status == 302


# ── other sites ──


def test_another_port_of_this_computer_is_another_site() -> None:
    """Any account can serve a page there; it must not open a WebSocket with this browser's cookies."""
    with served(FakeSource(), key=lambda: KEY) as url:
        port = urlsplit(url).port
        for origin in ("http://127.0.0.1:1", "http://localhost:6666", "http://[::1]:80", "http://127.0.0.1", "null"):
            assert Reply(url, "/ws", Origin=origin, **UPGRADE).status == 403
            assert Reply(url, "/", Origin=origin).status == 403
        for origin in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
            assert Reply(url, "/ws", Origin=origin, **UPGRADE).status not in (401, 403)
        tunnel = {"Host": "localhost:7777", "Origin": "http://localhost:7777"}
        assert Reply(url, "/ws", **tunnel, **UPGRADE).status not in (401, 403)


def test_a_post_of_another_site_changes_nothing(monitor: str) -> None:
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null"):
        reply = Reply(monitor, "/login", "POST", f"password={link()}", Origin=origin)
        assert reply.status == 403
        assert "Set-Cookie" not in reply.headers


def test_a_rebound_name_gets_nothing_even_from_this_account() -> None:
    with served(FakeSource(), key=lambda: KEY) as url:
        host = {"Host": "evil.example:9000"}
        assert Reply(url, "/", **host).status == 403
        assert Reply(url, f"/?token={link()}", **host).status == 403
        assert Reply(url, "/ws", Origin="http://evil.example:9000", **host, **UPGRADE).status == 403
        fake = {**PROXIED, "Host": "evil.example:9000"}
        page = Reply(url, "/", **fake)
        assert "A link, or its token" in page.text, "only the login page"
        assert "Set-Cookie" not in page.headers
        assert Reply(url, "/ws", **fake, **UPGRADE).status == 401


def test_behind_jupyters_proxy_under_another_name_a_link_just_opens() -> None:
    """The proxy adds its header to pages, not to WebSockets; the cookie is for the path of this Monitor alone."""
    with served(FakeSource(), key=lambda: KEY) as url:
        first = Reply(url, f"/?token={link()}", **PROXIED)
        assert (first.status, first.place) == (302, "./")
        assert "Path=/user/anna/proxy/9000" in first.headers["Set-Cookie"]
        cookie = first.cookie
        assert "Skip to the page" in Reply(url, "/", **PROXIED, **cookie).text
        live = {"Host": "hub.example.org", "Origin": "https://hub.example.org", **cookie, **UPGRADE}
        assert Reply(url, "/ws", **live).status not in (401, 403)
        assert Reply(url, "/ws", **{**live, "Origin": "https://evil.example"}).status == 403
        assert Reply(url, "/api/status", Host="hub.example.org", **cookie).status == 200


def test_a_proxy_that_adds_the_token_needs_no_cookie() -> None:
    """The tile in JupyterLab's launcher (launch/jupyter_proxy.py)."""
    with served(FakeSource(), prefix="user/anna/nblb", key=lambda: KEY) as url:
        added = {"Host": "hub.example.org", "Authorization": f"Bearer {link(account(), 'admin')}"}
        assert Reply(url, "/user/anna/nblb/", **added).status == 200
        live = {**added, "Origin": "https://hub.example.org", **UPGRADE}
        assert Reply(url, "/user/anna/nblb/ws", **live).status not in (401, 403)


# ── passwords ──


def test_passwords_by_name(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    file.write_text(json.dumps({"anna": "one", account(): "two"}))
    with served(FakeSource(), {"LB_STATE_DIR": str(tmp_path / "s")}, basic_auth=str(file), key=lambda: KEY) as url:
        assert Reply(url, "/").status == 302, "this account logs in, too"
        assert 'name="username"' in Reply(url, "/login").text
        assert "Set-Cookie" not in Reply(url, "/login", "POST", "username=anna&password=two").headers
        assert "Set-Cookie" not in Reply(url, "/login", "POST", "username=eve&password=").headers
        page = Reply(url, "/", **Reply(url, "/login", "POST", "username=anna&password=one").cookie)
        assert page.status == 200


@pytest.mark.parametrize(("given", "words"), [({"anna": ""}, "needs a password"), ("{broken", "JSON object")])
def test_wrong_tables_of_passwords(given: Any, words: str) -> None:
    from nblb.errors import NblbError
    from nblb.monitoring.server import open_server
    from nblb.parameters import load

    with pytest.raises(NblbError, match=words):
        open_server(load(None), port=0, basic_auth=given)
