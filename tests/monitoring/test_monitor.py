"""The Monitor's server and page, with a fake source and, if one is installed, a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from nblb.errors import NblbError, NotAllowed
from nblb.monitoring import monitor
from nblb.monitoring.poller import QUESTIONS
from nblb.parameters import load
from tests.browser import chromium
from tests.monitoring.fake_source import NASTY, FakeSource
from tests.waiting import wait_until


@contextlib.contextmanager
def served(source: FakeSource | None, parameters: Any = None, **options: Any) -> Iterator[str]:
    """A Monitor that answers, in a thread of this process; its address."""
    ready, found = threading.Event(), {}

    def run() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        server, poller, url = monitor.open_server(
            load(parameters), port=0, connect=source.connect if source else None, **options
        )
        found.update(server=server, poller=poller, url=url)
        server.start()
        server.io_loop.add_callback(ready.set)
        server.io_loop.start()
        server.stop()
        server.io_loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(20)
        yield found["url"]
    finally:
        if found:
            found["server"].io_loop.add_callback(found["server"].io_loop.stop)
            found["poller"].stop()
        thread.join(20)
        assert not thread.is_alive()


def test_liveness_answers() -> None:
    with served(FakeSource()) as url, urllib.request.urlopen(f"{url}liveness?endpoint=/", timeout=60) as answer:
        assert json.load(answer) == {"/": True}


def test_prefix() -> None:
    with served(FakeSource(), prefix="user/anna/nblb") as url:
        assert url.endswith("/user/anna/nblb/")
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert b"LoadBalancer Monitor" in answer.read()


@pytest.mark.parametrize("prefix", ["", "user/anna"])
def test_it_asks_for_the_text_of_MONITOR_AUTH(prefix: str) -> None:
    with served(FakeSource(), {"MONITOR_AUTH": "open sesame"}, prefix=prefix) as url:
        cookies = urllib.request.HTTPCookieProcessor()
        browser = urllib.request.build_opener(cookies)

        def get(data: dict[str, str] | None = None) -> str:
            body = urllib.parse.urlencode(data).encode() if data else None
            with browser.open(f"{url}login" if data else url, body, timeout=60) as answer:
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


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NblbError, match=f"MONITOR_PORT {port} on 127.0.0.1 cannot be used"):
            monitor.open_server(load({"MONITOR_PORT": port}))


def test_table_sends_only_cells_that_differ() -> None:
    from nblb.monitoring.table import Table

    table = Table(("Task", "Progress"), 200, "none", {})
    table.show([("a", 1), ("b", 2)])
    patches: list[Any] = []
    table.widget.patch = lambda changes, as_index: patches.append(changes)
    table.show([("a", 1), ("b", 7)])
    table.show([("a", 1), ("b", 7)])
    assert patches == [{"Progress": [(1, 7)]}]
    table.show([("c", 1)])
    assert list(table.widget.value["Task"]) == ["c"]


def test_a_table_on_a_tab_that_is_not_open_is_sent_whole_when_it_opens() -> None:
    from nblb.monitoring.table import SETTLES_S, Table

    now = [0.0]
    table = Table(("User", "Running"), 200, "none", {}, clock=lambda: now[0])
    sent: list[Any] = []
    table.widget.patch = lambda changes, as_index: sent.append(changes)
    table.widget.param.watch(lambda event: sent.append(list(event.new["Running"])), "value")
    table.show([("root", 0)])
    table.close()
    table.show([("root", 3)])
    assert sent == [[0]]
    table.open()
    assert sent[1:] == [[3]]
    table.show([("root", 4)])  # the browser may still be drawing: nothing that could be lost
    assert sent[2:] == [[4]]
    now[0] = SETTLES_S
    table.settle()
    table.settle()
    assert sent[3:] == [[4]]
    table.show([("root", 5)])
    assert sent[4:] == [{"Running": [(0, 5)]}]


@pytest.fixture(scope="module", autouse=True)
def _one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with chromium.shared(tmp_path_factory.mktemp("chromium")):
        yield


@contextlib.contextmanager
def browser_page(width: int = 1280, height: int = 800) -> Iterator[Any]:
    """A page that keeps what it complained of in `complaints`, and what it asked of other computers."""
    with chromium.page((width, height), dark=False) as page:
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda r: None if _is_local(r.url) else page.complaints.append(f"asked for {r.url}"))
        yield page


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


def _tab(page: Any, name: str) -> None:
    page.locator(".bk-tab", has_text=name).click()
    page.get_by_role("heading", level=2).first.wait_for()


@pytest.mark.browser
@pytest.mark.browser
def test_the_page_shows_the_cluster_and_asks_nobody_else() -> None:
    source = FakeSource()
    with served(source) as url, browser_page() as page:
        page.goto(url)
        page.get_by_text("worker_c0b28c07").wait_for()
        assert page.title() == "LoadBalancer Monitor"
        assert page.get_by_role("heading", level=1).inner_text() == "LoadBalancer Monitor"
        for tab, texts in {
            "Workers": ["simulate", "lab2", "127.0.0.1:8301"],
            "Queue": ["anna", "bert", "8:32 min", "waiting: no worker takes priority 2000"],
            "Statistics": ["simulate", "2:00 h"],
            "Jobs": ["sweep", "▶ running", "✓ done"],
        }.items():
            _tab(page, tab)
            for text in texts:
                page.get_by_text(text, exact=False).first.wait_for()
        # a name that is HTML is shown as it stands, and does nothing
        page.get_by_text(NASTY[:20]).first.wait_for()
        assert page.title() == "LoadBalancer Monitor"
        assert page.complaints == []


@pytest.mark.browser
@pytest.mark.browser
def test_a_tab_that_is_opened_late_shows_what_is_true() -> None:
    source = FakeSource()
    source.users = [{"user": "root", "queued": 0, "running": 0, "done": 0, "failed": 0, "used_s": 0.0}]
    with served(source) as url, browser_page() as page:
        page.goto(url)
        page.get_by_text("worker_c0b28c07").wait_for()
        wait_until(lambda: source.step >= 2, 20, "two rounds")
        source.users = [{**source.users[0], "queued": 5, "running": 3}]  # while another tab is open
        before = source.step
        wait_until(lambda: source.step >= before + 3, 20, "three more rounds")
        _tab(page, "Queue")
        row = page.locator(".tabulator-row", has_text="root")
        row.locator("[tabulator-field=Running]", has_text="3").wait_for()
        source.users = [{**source.users[0], "running": 4}]
        row.locator("[tabulator-field=Running]", has_text="4").wait_for()
        _tab(page, "Workers")
        source.users = [{**source.users[0], "running": 1}]
        before = source.step
        wait_until(lambda: source.step >= before + 2, 20, "two more rounds")
        _tab(page, "Queue")
        row.locator("[tabulator-field=Running]", has_text="1").wait_for()


POINTS = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type == "ColumnDataSource" && m.data.queued).map(m => [...m.data.queued])[0] || []"""


@pytest.mark.browser
@pytest.mark.browser
def test_the_chart_is_broken_where_nobody_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    from nblb.monitoring import poller

    monkeypatch.setattr(poller, "IDLE_AFTER_S", 0.8)
    source = FakeSource()
    with served(source) as url, browser_page() as page:
        page.goto(f"{url}?tab=1")
        page.get_by_text("By task name").wait_for()
        wait_until(lambda: len(page.evaluate(POINTS)) >= 2, 20, "two points")
        page.goto("about:blank")
        asked = [time.monotonic(), len(source.asked)]

        def nobody_looks() -> bool:
            if len(source.asked) != asked[1]:
                asked[:] = time.monotonic(), len(source.asked)
            return time.monotonic() - asked[0] > (poller.GAP + 5) * poller.EVERY_S

        wait_until(nobody_looks, 90, "a while without a question")
        page.goto(f"{url}?tab=1")
        page.get_by_text("By task name").wait_for()
        wait_until(lambda: any(map(isnan, page.evaluate(POINTS))), 20, "a gap in the line")
        assert not isnan(page.evaluate(POINTS)[-1])  # and it goes on behind the gap


@pytest.mark.browser
@pytest.mark.browser
def test_core_away_is_said_and_mends_itself() -> None:
    source = FakeSource()
    source.away = True
    with served(source) as url, browser_page() as page:
        page.goto(url)
        page.get_by_role("alert").get_by_text("Core unreachable").wait_for()
        source.away = False
        page.get_by_text("worker_c0b28c00").wait_for()
        page.get_by_role("alert").wait_for(state="detached")
        source.away = True
        page.get_by_role("alert").get_by_text("old").wait_for()
        source.away = False
        page.get_by_role("alert").wait_for(state="detached")


@pytest.mark.browser
@pytest.mark.browser
def test_dark_and_narrow() -> None:
    with served(FakeSource()) as url, browser_page(600, 900) as page:
        page.goto(f"{url}?theme=dark")
        page.get_by_text("worker_c0b28c00").wait_for()
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert all(int(part) < 80 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")), colour
        wide = page.evaluate("[document.documentElement.scrollWidth, document.querySelector('#main').scrollWidth]")
        assert max(wide) <= 600, "tables scroll inside themselves"
        page.get_by_role("link", name="light").click()
        page.wait_for_url("**theme=default**")
        page.get_by_text("worker_c0b28c00").wait_for()
        assert page.complaints == []


@pytest.mark.browser
@pytest.mark.browser
def test_many_browsers_are_one_for_the_core() -> None:
    source = FakeSource()
    with served(source) as url, browser_page() as page:
        pages = [page, *(page.context.new_page() for _ in range(3))]
        for one in pages:
            one.goto(url)
            one.get_by_text("worker_c0b28c00").wait_for()
        asked = len(source.asked)
        number = source.step
        wait_until(lambda: source.step >= number + 3, 20, "three more rounds")
        rounds = source.step - number
        assert len(source.asked) - asked <= (rounds + 1) * len(QUESTIONS)
        for one in pages[1:]:
            one.close()


@pytest.mark.browser
@pytest.mark.browser
def test_a_real_cluster(cluster: Any, parameters: Any) -> None:
    """With the core's own answers, not a source that stands for it."""
    worker = cluster.workers()[0]
    name = worker["worker"] if isinstance(worker, dict) else worker.worker
    with served(None, parameters) as url, browser_page() as page:
        page.goto(url)
        page.get_by_text(name).wait_for()
        page.get_by_text("cluster t on").wait_for()
        for tab in ("Queue", "Statistics", "Jobs"):
            _tab(page, tab)
        assert page.complaints == []


@pytest.mark.slow
def test_panel_serve(tmp_path: Path, parameters_file: str) -> None:
    """`panel serve` of the very file works too, and says that no core is there rather than failing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path / "log").open("w+")
    command = [sys.executable, "-m", "panel", "serve", monitor.__file__, "--address", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--args", parameters_file], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )
    try:

        def page() -> bytes:
            assert server.poll() is None
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/monitor", timeout=60) as answer:
                content: bytes = answer.read()
                return content

        assert b"LoadBalancer Monitor" in wait_until(page, 30, "the page", every_s=0.2)
        log.seek(0)
        assert "Traceback" not in log.read()
    finally:
        server.terminate()
        server.wait(60)
        log.close()
