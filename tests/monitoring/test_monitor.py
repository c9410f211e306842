"""The Monitor's pages in a real browser, with a source that stands for the cluster and with a real one."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb.monitoring import monitor
from nblb.protocol.messages import CancelTask, DrainHub, ForgetJob, RemoveHub, RetryFailed, ScaleHub, SetPriority
from tests.browser import chromium
from tests.monitoring.fake_source import FakeSource
from tests.monitoring.served import browser_page, served
from tests.waiting import wait_until

needs_browser = pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing())
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module", autouse=True)
def _one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with chromium.shared(tmp_path_factory.mktemp("chromium")):
        yield


def test_table_sends_only_cells_that_differ() -> None:
    from nblb.monitoring.table import SETTLES_S, Table

    now = [0.0]
    table = Table(("Task", "Progress %"), "none", links=("Task",), clock=lambda: now[0])
    patches: list[Any] = []
    table.widget.patch = lambda changes, as_index: patches.append(changes)
    rows = [(("a", "?a"), 1), (("b", "?b"), 2)]
    table.show(rows)
    table.show([rows[0], (("b", "?b"), 3)])
    assert patches == [], "while the browser may still be drawing, whole tables are sent"
    assert list(table.widget.value["Progress %"]) == [1, 3]
    now[0] = SETTLES_S
    table.show([rows[0], (("b", "?b"), 4)])
    assert list(table.widget.value["Progress %"]) == [1, 4]
    table.show([rows[0], (("b", "?b"), 7)])
    table.show([rows[0], (("b", "?b"), 7)])
    assert patches == [{"Progress %": [(1, 7)]}]
    table.show([(("c", "?c"), 1)])
    assert list(table.widget.value["Task address"]) == ["?c"]


PAGES = {
    "now": ["lab1", "97 % CPU", "half way", "occupies 2 workers, fewer than anna", "bert", "8 min 32 s"],
    "tasks": ["1 to 50 of 100,000", "sweep[0]", "✗ failed", "ValueError: bad"],
    "jobs": ["sweep", "▶ running", "✓ done", "3,792"],
    "users": ["anna", "2 h", "6,000"],
    "hubs": ["lab1-77", "3 of 4 busy", "Python 3.11, nblb 0.1.0", "Drain"],
    "statistics": ["simulate", "2 h", "≈ 3 s"],
    "timeline": ["simulate", "fit"],
    "health": ["HC - WARNING : 2 tasks wait for a worker that takes priority 2000", "Durability"],
    "room": ["workers busy", "done a minute", "sweep"],
    "job&job=j1": ["sweep", "6,190 done", "12 failed", "x must not be …", "Cancel job"],
    "task&task=t000004": ["sweep[4]", "simulate(3, n=1000)", "Traceback", "a warning", "was submitted", "Run again"],
    "task&task=gone": ["This task is not known"],
    "nonsense": ["lab1"],
}


@needs_browser
@pytest.mark.browser
def test_every_page_shows_the_cluster_and_asks_nobody_else() -> None:
    with served(FakeSource()) as url, browser_page() as page:
        for name, texts in PAGES.items():
            page.goto(f"{url}?page={name}")
            for text in texts:
                page.get_by_text(text, exact=False).first.wait_for()
            assert page.title() == "LoadBalancer Monitor", "a name that is HTML is shown as it stands"
            assert page.locator("nav a[aria-current=page]").count() == 1
            assert page.complaints == [], name


@needs_browser
@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_no_page_is_wider_than_a_phone_and_rows_become_cards(dark: bool) -> None:
    with served(FakeSource()) as url, browser_page(390, 800, dark) as page:
        for name in PAGES:
            page.goto(f"{url}?page={name}")
            page.locator(".facts").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        page.goto(f"{url}?page=jobs")

        def stacked() -> bool:
            """Whether a row's cells stand below each other."""
            boxes = [page.locator(f".tabulator-cell[tabulator-field={name}]").first.bounding_box()
                     for name in ("Running", "Waiting")]  # fmt: skip
            return all(boxes) and boxes[1]["y"] > boxes[0]["y"]

        wait_until(stacked, 30, "cards")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        parts = [int(part) for part in re.findall(r"\d+", colour)[:3]]
        assert all(part < 80 for part in parts) if dark else all(part > 200 for part in parts)


@needs_browser
@pytest.mark.browser
def test_links_and_the_address_bring_back_what_was_seen() -> None:
    source = FakeSource()
    with served(source) as url, browser_page() as page:
        page.goto(f"{url}?page=tasks")
        page.get_by_text("1 to 50 of 100,000").wait_for()
        page.get_by_role("button", name="Next ›").click()
        page.get_by_text("51 to 100 of 100,000").wait_for()
        page.get_by_label("State").select_option("failed or lost")
        page.wait_for_url("**state=BAD**")
        page.get_by_label("Search").fill("half")
        page.get_by_label("Search").press("Enter")
        page.get_by_text("1 to 7 of 7").wait_for()
        assert source.abouts["page"]["search"] == "half"
        assert source.abouts["page"]["state"] == "BAD"
        page.reload()
        page.get_by_text("1 to 7 of 7").wait_for()
        assert page.get_by_label("Search").input_value() == "half"
        page.locator("[tabulator-field=Task] a").nth(4).click()
        page.get_by_role("heading", name="sweep[4]").wait_for()
        page.get_by_role("link", name="sweep").click()
        page.get_by_text("12 failed").wait_for()
        page.go_back()
        page.get_by_role("heading", name="sweep[4]").wait_for()
        assert page.complaints == []


@needs_browser
@pytest.mark.browser
def test_controls_of_tasks_and_jobs_ask_act_and_say_what_they_did() -> None:
    source = FakeSource()
    with served(source) as url, browser_page() as page:
        page.goto(f"{url}?page=task&task=t000000")
        page.get_by_role("button", name="Cancel …").click()
        page.get_by_text("Cancel sweep[0]?").wait_for()
        page.get_by_role("button", name="No", exact=True).first.click()
        assert source.orders == []
        page.get_by_role("button", name="Cancel …").click()
        page.get_by_role("button", name="Yes, cancel", exact=True).click()
        page.get_by_text("cancelled sweep[0]").wait_for()
        assert source.orders.pop() == CancelTask(request=1, task="t000000")
        page.get_by_role("button", name="Set priority").click()
        page.get_by_text("have priority 5 now").wait_for()
        assert source.orders.pop() == SetPriority(request=1, priority=5.0, task="t000000")
        page.goto(f"{url}?page=task&task=t000004")
        page.get_by_role("button", name="Run again").click()
        page.get_by_text("3 calls of sweep[4] run again").wait_for()
        assert source.orders.pop() == RetryFailed(request=1, task="t000004")
        page.goto(f"{url}?page=job&job=j1")
        page.get_by_role("button", name="Cancel job …").click()
        page.get_by_text("Cancel the 3,798 calls of sweep that have not ended?").wait_for()
        page.get_by_role("button", name="Yes, cancel job").click()
        page.get_by_text("cancelled 3 calls of sweep").wait_for()
        assert source.orders.pop() == CancelTask(request=1, job="j1")
        page.get_by_role("button", name="Retry failed").click()
        wait_until(lambda: source.orders == [RetryFailed(request=1, job="j1")], 10, "the order")
        page.goto(f"{url}?page=job&job=j2")
        page.get_by_role("button", name="Forget job …").click()
        page.get_by_role("button", name="Yes, forget job").click()
        wait_until(lambda: source.orders[1:] == [ForgetJob(job="j2", request=1)], 10, "the order")


@needs_browser
@pytest.mark.browser
def test_controls_of_hubs() -> None:
    source = FakeSource()
    with served(source) as url, browser_page() as page:
        page.goto(f"{url}?page=hubs")
        page.get_by_label("Workers").fill("6")
        page.get_by_label("Workers").press("Tab")
        page.get_by_role("button", name="Scale").click()
        page.get_by_text("hub lab1-77 gets 6 workers").wait_for()
        assert source.orders.pop() == ScaleHub(hub="h1", workers=6, request=1)
        page.get_by_role("button", name="Drain").click()
        page.get_by_text("hub lab1-77 takes no new work; 3 slices still run there").wait_for()
        assert source.orders.pop() == DrainHub(hub="h1", drain=True, request=1)
        source.hub_state = "draining"
        page.get_by_role("button", name="Take work again").click()
        page.get_by_text("hub lab1-77 takes work again").wait_for()
        assert source.orders.pop() == DrainHub(hub="h1", drain=False, request=1)
        page.get_by_role("button", name="Restart …").click()
        page.get_by_text("Restart hub lab1-77?").wait_for()
        page.get_by_role("button", name="Yes, restart").click()
        page.get_by_text("hub lab1-77 starts again when its 3 slices have ended").wait_for()
        assert source.orders.pop() == RemoveHub(hub="h1", restart=True, request=1)
        source.away = True
        page.get_by_role("button", name="Scale").click()
        page.get_by_text("not done: No core answers").wait_for()


@needs_browser
@pytest.mark.browser
def test_core_away_is_said_and_mends_itself() -> None:
    source = FakeSource()
    source.away = True
    with served(source) as url, browser_page() as page:
        page.goto(url)
        page.get_by_role("alert").get_by_text("Core unreachable").wait_for()
        source.away = False
        page.get_by_text("97 % CPU").first.wait_for()
        page.get_by_text("Core unreachable").wait_for(state="detached")
        source.away = True
        page.get_by_role("alert").get_by_text("old").wait_for()
        source.away = False
        page.get_by_text("Core unreachable").wait_for(state="detached")


@needs_browser
@pytest.mark.browser
def test_a_number_is_the_same_everywhere_and_follows() -> None:
    source = FakeSource()
    source.users = [{"user": "root", "queued": 0, "running": 0, "done": 0, "failed": 0, "used_s": 0.0}]
    with served(source) as url, browser_page() as page:
        page.goto(f"{url}?page=users")
        row = page.locator(".tabulator-row", has_text="root")
        row.wait_for()
        for running in (3, 4, 1):
            before = source.step
            wait_until(lambda before=before: source.step >= before + 2, 20, "two more rounds")
            source.users = [{**source.users[0], "running": running}]
            row.locator("[tabulator-field=Running]", has_text=str(running)).wait_for()


GAPS = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type == "ColumnDataSource" && m.data.queued)
    .map(m => [...m.data.queued].filter(isNaN).length)[0] || 0"""


@needs_browser
@pytest.mark.browser
def test_the_chart_is_broken_where_there_is_no_history() -> None:
    with served(FakeSource()) as url, browser_page() as page:
        page.goto(url)
        wait_until(lambda: page.evaluate(GAPS) == 1, 20, "one gap in the line")


@needs_browser
@pytest.mark.browser
def test_many_browsers_are_one_for_the_core() -> None:
    source = FakeSource()
    with served(source) as url, browser_page() as page:
        pages = [page, *(page.context.new_page() for _ in range(3))]
        for one in pages:
            one.goto(f"{url}?page=users")
            one.get_by_text("6,000").wait_for()
        asked, number = len(source.asked), source.step
        wait_until(lambda: source.step >= number + 3, 20, "three more rounds")
        rounds = source.step - number
        assert len(source.asked) - asked <= (rounds + 1) * 3
        for one in pages[1:]:
            one.close()


@needs_browser
@pytest.mark.browser
def test_pages_pass_axe() -> None:
    """No violation of WCAG 2 A and AA in the parts that are ours."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with served(FakeSource()) as url, browser_page() as page:
        for theme in ("default", "dark"):
            for name in ("now", "tasks", "job&job=j1", "task&task=t000004", "hubs", "health", "room"):
                page.goto(f"{url}?page={name}&theme={theme}")
                page.locator(".facts").wait_for()
                wait_until(lambda: not page.get_by_text("asking the core").count(), 10, "the answer")
                options = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}}
                all_found = axe.run(page, options=options).response["violations"]
                found = [v for v in all_found if v["id"] != "aria-required-children"]  # inside Tabulator's grid
                told = [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in found]
                assert not told, f"{name} {theme}"


@needs_browser
@pytest.mark.browser
def test_the_control_panel_starts_and_stops_a_cluster(settings: dict[str, Any], tmp_path: Path) -> None:
    import json

    import nblb as lb
    from nblb import launch

    file = tmp_path / "parameters.json"
    file.write_text(json.dumps(settings))
    shown = lb.dashboard(file)
    try:
        with browser_page() as page:
            page.goto(shown.url)
            page.get_by_text("no core answers").wait_for()
            page.get_by_label("LB_NAME").fill("no/slash")
            page.get_by_text("it must be up to 64 letters").wait_for()
            page.get_by_label("LB_NAME").fill("t")
            page.get_by_text("✓ valid").wait_for()
            page.get_by_role("button", name="Start core and hub").click()
            page.get_by_text("✓ core pid").wait_for(timeout=60_000)
            page.get_by_role("link", name="Hubs").click()
            page.get_by_text("✓ up").wait_for()
            page.get_by_role("link", name="Cluster").click()
            page.get_by_role("button", name="Stop core …").click()
            page.get_by_role("button", name="Yes, stop core").click()
            page.get_by_text("the core and its hubs have ended").wait_for(timeout=60_000)
            assert page.complaints == []
    finally:
        shown.stop()
        launch.stop(settings)


@needs_browser
@pytest.mark.browser
def test_a_real_cluster(cluster: Any, parameters: Any) -> None:
    """With the core's own answers and orders, not a source that stands for it."""
    import nblb as lb

    @lb.task
    def fit(x: int) -> int:
        if x == 3:
            raise ValueError(f"x must not be {x}")
        return x

    job = fit.map(range(8), job="fits")
    job.wait()
    with served(None, parameters) as url, browser_page() as page:
        for name in PAGES:
            page.goto(f"{url}?page={name.partition('&')[0]}")
            page.locator(".facts").wait_for()
            page.get_by_text("cluster t on").wait_for()
        page.goto(f"{url}?page=tasks&state=BAD")
        page.get_by_text("1 to 1 of 1").wait_for()
        page.locator("[tabulator-field=Task] a").first.click()
        page.get_by_text("fit(3)").first.wait_for()
        page.get_by_role("button", name="Run again").click()
        page.get_by_text("1 call of fits[3] run again").wait_for()
        page.goto(f"{url}?page=hubs")
        page.get_by_role("button", name="Drain").click()
        page.get_by_text("⊘ drained").wait_for()
        wait_until(lambda: cluster.hubs()[0]["state"] == "draining", 10, "the hub is drained")
        page.get_by_role("button", name="Take work again").click()
        page.get_by_text("✓ up").wait_for()
        hub = cluster.hubs()[0]
        page.get_by_role("button", name="Restart …").click()
        page.get_by_role("button", name="Yes, restart").click()

        def has_restarted() -> bool:
            rows = cluster.hubs()
            return len(rows) == 1 and rows[0]["hub"] != hub["hub"] and rows[0]["pid"] == hub["pid"]

        wait_until(has_restarted, 40, "the hub has started again, with the same pid")
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
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/monitor", timeout=5) as answer:
                content: bytes = answer.read()
                return content

        assert b"LoadBalancer Monitor" in wait_until(page, 30, "the page", every_s=0.2)
        log.seek(0)
        assert "Traceback" not in log.read()
    finally:
        server.terminate()
        server.wait(10)
        log.close()
