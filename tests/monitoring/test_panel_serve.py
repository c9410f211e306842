"""`panel serve nblb/monitoring/monitor.py` with the options of that command, and `nblb monitor` with its own."""

from __future__ import annotations

import base64
import contextlib
import http.cookiejar
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nblb.monitoring import monitor
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
SERVE = (sys.executable, "-m", "panel", "serve", monitor.__file__)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def run(*command: str, url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers."""
    with log.open("w") as out:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:

        def answers() -> bool:
            assert server.poll() is None, log.read_text()
            with contextlib.suppress(urllib.error.HTTPError, urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(url, timeout=10).close()
                return True
            return False

        wait_until(answers, 60, url, every_s=0.2)
        yield server
        assert "Traceback" not in log.read_text()
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # Panel's own processes, too
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def text_of(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return str(answer.read().decode())


def upgrade(port: int, path: str, origin: str) -> int:
    """The status of a WebSocket's handshake from this origin."""
    lines = (
        f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Origin: {origin}", "", "",
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.recv(12)[-3:])


def test_port_address_prefix_origin_liveness_and_processes(tmp_path: Path, parameters_file: str) -> None:
    port = free_port()
    options = ("--address", "127.0.0.1", "--port", str(port), "--prefix", "lab", "--liveness", "--num-procs", "2",
               "--allow-websocket-origin", "lab.example:443", "--args", parameters_file)  # fmt: skip
    base = f"http://127.0.0.1:{port}/lab"
    with run(*SERVE, *options, url=f"{base}/liveness?endpoint=/monitor", log=tmp_path / "log") as server:
        assert json.loads(text_of(f"{base}/liveness?endpoint=/monitor")) == {"/monitor": True}
        assert "LoadBalancer Monitor" in text_of(f"{base}/monitor")
        assert upgrade(port, "/lab/monitor/ws", "https://evil.example") == 403
        assert upgrade(port, "/lab/monitor/ws", "https://lab.example:443") != 403
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        assert not children.exists() or len(children.read_text().split()) == 2


def test_basic_auth(tmp_path: Path, parameters_file: str) -> None:
    """Panel's own login: who has no key of the cluster only looks."""
    port, users = free_port(), tmp_path / "users.json"
    users.write_text(json.dumps({"anna": "secret"}))
    options = ("--address", "127.0.0.1", "--port", str(port), "--basic-auth", str(users), "--cookie-secret", "c" * 32)
    url = f"http://127.0.0.1:{port}"
    with run(*SERVE, *options, "--args", parameters_file, url=f"{url}/login", log=tmp_path / "log"):
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        with browser.open(f"{url}/monitor", timeout=20) as answer:
            assert "/login" in answer.geturl()
        form = urllib.parse.urlencode({"username": "anna", "password": "secret"}).encode()
        browser.open(f"{url}/login", form, timeout=20).close()
        with browser.open(f"{url}/monitor", timeout=20) as answer:
            assert "LoadBalancer Monitor" in answer.read().decode()


def test_autoreload(tmp_path: Path, parameters_file: str) -> None:
    port = free_port()
    options = ("--address", "127.0.0.1", "--port", str(port), "--autoreload", "--args", parameters_file)
    with run(*SERVE, *options, url=f"http://127.0.0.1:{port}/monitor", log=tmp_path / "log"):
        assert "LoadBalancer Monitor" in text_of(f"http://127.0.0.1:{port}/monitor")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another account")
def test_another_account_sees_no_cluster_by_panel_serve(tmp_path: Path, parameters_file: str) -> None:
    port = free_port()
    options = ("--address", "127.0.0.1", "--port", str(port), "--args", parameters_file)
    with run(*SERVE, *options, url=f"http://127.0.0.1:{port}/monitor", log=tmp_path / "log"):
        assert "Skip to the page" in text_of(f"http://127.0.0.1:{port}/monitor")
        assert "Skip to the page" not in text_of(f"http://127.0.0.1:{port}/monitor", **{"X-Forwarded-For": "192.0.2.1"})
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.setuid(1)
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(f"GET /monitor HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
                text = b""
                while part := connection.recv(65536):
                    text += part
                os.write(writer, b"shown" if b"Skip to the page" in text else b"closed")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 10) == b"closed"


def test_nblb_monitor_has_the_same_options(tmp_path: Path, parameters_file: str) -> None:
    port, users = free_port(), tmp_path / "users.json"
    users.write_text(json.dumps({"anna": "secret"}))
    options = ("-p", parameters_file, "--port", str(port), "--prefix", "lab")
    more = ("--allow-websocket-origin", "lab.example:443", "--basic-auth", str(users))
    command = (sys.executable, "-m", "nblb", "monitor", *options, *more)
    base = f"http://127.0.0.1:{port}/lab"
    with run(*command, url=f"{base}/health", log=tmp_path / "log"):
        assert json.loads(text_of(f"{base}/liveness?endpoint=/")) == {"/": True}
        assert 'name="username"' in text_of(f"{base}/")
        basic = {"Authorization": f"Basic {base64.b64encode(b'anna:secret').decode()}"}
        assert "Skip to the page" in text_of(f"{base}/", **basic)
        assert "Skip to the page" in text_of(f"{base}/monitor", **basic, Host="lab.example:443")
        assert upgrade(port, "/lab/ws", "https://evil.example") == 403
