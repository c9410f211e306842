"""The Monitor as a service of JupyterHub, with JupyterHub's own HubOAuth and a server that stands for the Hub's API."""

from __future__ import annotations

import json
import os
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nblb.errors import NblbError
from nblb.monitoring.login import hub_login
from tests.monitoring.fake_source import FakeSource
from tests.monitoring.login.test_gate import UPGRADE, Reply
from tests.monitoring.served import served

SCOPE = "access:services!service=nblb"
PROXIED = {"Host": "hub.example.org", "X-Forwarded-For": "203.0.113.9"}


class Hub(BaseHTTPRequestHandler):
    """The part of JupyterHub's API that HubOAuth asks."""

    scopes = [SCOPE]

    def do_POST(self) -> None:
        self._answer({"access_token": "of-anna", "token_type": "Bearer"})

    def do_GET(self) -> None:
        self._answer({"name": "anna", "kind": "user", "admin": False, "groups": [], "scopes": self.scopes})

    def _answer(self, value: Any) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: Any) -> None:
        """Quiet."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[str]:
    auth = pytest.importorskip("jupyterhub.services.auth")
    auth.HubOAuth.clear_instance()  # a process has one, which knows the address of an earlier test's hub
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        given = {
            "SERVICE_NAME": "nblb", "API_TOKEN": "t", "CLIENT_ID": "service-nblb", "HOST": "", "BASE_URL": "/",
            "SERVICE_PREFIX": "/services/nblb/", "API_URL": f"http://127.0.0.1:{hub.server_port}/hub/api",
            "OAUTH_SCOPES": json.dumps([SCOPE]), "OAUTH_ACCESS_SCOPES": json.dumps([SCOPE]),
        }  # fmt: skip
        for name, value in given.items():
            monkeypatch.setenv(f"JUPYTERHUB_{name}", value)
        key = os.urandom(32)
        with served(FakeSource(), {"LB_STATE_DIR": str(tmp_path)}, key=lambda: key) as url:
            yield url
        hub.shutdown()


def cookies(*replies: Reply) -> dict[str, str]:
    given = [one.partition(";")[0] for reply in replies for one in reply.headers.get_all("Set-Cookie") or ()]
    return {"Cookie": "; ".join(one for one in given if not one.endswith('=""'))}


def test_jupyterhub_logs_in_and_nobody_else(service: str) -> None:
    assert service.endswith("/services/nblb/")
    first = Reply(service, "/services/nblb/?page=tasks", **PROXIED)
    assert (first.status, first.place) == (302, "hub-login?next=%3Fpage%3Dtasks")
    assert Reply(service, "/services/nblb/api/status", **PROXIED).status == 401
    assert Reply(service, "/services/nblb/ws", **PROXIED, **UPGRADE).status == 401
    assert Reply(service, "/services/nblb/").status == 302, "this account logs in, too"
    sent = Reply(service, f"/services/nblb/{first.place}", **PROXIED)
    assert sent.status == 302
    assert "/hub/api/oauth2/authorize" in sent.place
    state = urllib.parse.parse_qs(urllib.parse.urlsplit(sent.place).query)["state"][0]
    back = f"/services/nblb/oauth_callback?code=c&state={urllib.parse.quote(state)}"
    assert Reply(service, back, **PROXIED).status in (400, 403), "a state without its cookie is another browser's"
    logged_in = Reply(service, back, **PROXIED, **cookies(sent))
    assert logged_in.status == 302
    entered = Reply(service, f"/services/nblb/{first.place}", **PROXIED, **cookies(logged_in))
    assert (entered.status, entered.place) == (302, "./?page=tasks")
    own = cookies(entered)
    assert "nblb-monitor-" in own["Cookie"]
    assert "Skip to the page" in Reply(service, "/services/nblb/?page=tasks", **PROXIED, **own).text
    live = {**PROXIED, **own, **UPGRADE, "Origin": "https://hub.example.org"}
    assert Reply(service, "/services/nblb/ws", **live).status not in (401, 403)
    assert Reply(service, "/services/nblb/ws", **{**live, "Origin": "https://evil.example"}).status == 403
    header = Reply(
        service, "/services/nblb/api/status", **PROXIED, **{"X-Forwarded-User": "root", "Remote-User": "root"}
    )
    assert header.status == 401, "no header of a proxy is believed"


def test_a_user_without_the_services_scope_is_refused(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "scopes", ["self"])
    sent = Reply(service, "/services/nblb/hub-login", **PROXIED)
    state = urllib.parse.parse_qs(urllib.parse.urlsplit(sent.place).query)["state"][0]
    back = f"/services/nblb/oauth_callback?code=c&state={urllib.parse.quote(state)}"
    logged_in = Reply(service, back, **PROXIED, **cookies(sent))
    refused = Reply(service, "/services/nblb/hub-login", **PROXIED, **cookies(logged_in))
    assert not [name for name in refused.headers.get_all("Set-Cookie") or () if name.startswith("nblb-monitor")]


def test_a_users_own_server_is_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "t")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_NAME", "")
    monkeypatch.setenv("JUPYTERHUB_USER", "anna")
    assert not hub_login.is_service()
    monkeypatch.setenv("JUPYTERHUB_SERVICE_NAME", "nblb")
    assert not hub_login.is_service()
    monkeypatch.delenv("JUPYTERHUB_USER")
    assert hub_login.is_service()


def test_without_the_package_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyterhub.services.auth", None)
    with pytest.raises(NblbError, match=r"pip install 'nblb\[hub\]'"):
        hub_login.patterns(None)  # type: ignore[arg-type]
