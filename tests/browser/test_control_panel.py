"""The control panel in a JupyterLab behind a prefix: from an empty notebook, by the mouse, to a stopped cluster."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from nblb import launch
from tests.browser import chromium
from tests.browser.conftest import ROOT
from tests.browser.lab import DARK, LIGHT, Lab, Page, browser_page, lab, write_notebook
from tests.waiting import wait_until

PREFIX = "/user/anna"  # as JupyterHub has it
RUN = "[data-command='notebook:run-cell-and-select-next'] button, [data-command='notebook:run-cell-and-select-next']"
WORK = """import nblb as lb
lb.connect('parameters.json')
@lb.task
def halve(x):
    if x == 3:
        raise ValueError(f"{x} is odd")
    return x / 2
job = halve.map(range(8), job="sweep")
job.wait()"""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, runtime_base: Path) -> Iterator[Lab]:
    """JupyterLab with jupyter-server-proxy, under a prefix."""
    pytest.importorskip("jupyter_server_proxy")
    runtime = Path(tempfile.mkdtemp(dir=runtime_base))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with lab(tmp_path_factory.mktemp("proxied"), runtime, prefix=PREFIX, PYTHONPATH=path) as running:
        yield running


@pytest.fixture
def to_start(proxied: Lab, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """parameters.json of a cluster that the panel is to start; it is ended after the test."""
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(proxied.runtime))
    settings["LB_NAME"] = "panel"
    (proxied.root / "parameters.json").write_text(json.dumps(settings))
    try:
        yield settings
    finally:
        launch.stop(settings)


def press_run(page: Page) -> None:
    """Runs the chosen cell by the notebook's own button."""
    page.page.locator(RUN).first.click()


def test_from_an_empty_notebook_by_the_mouse(proxied: Lab, to_start: dict[str, Any], artifacts: Path) -> None:
    write_notebook(proxied.root / "panel.ipynb", "import nblb as lb\nlb.dashboard()", WORK)
    with browser_page(proxied, "panel.ipynb", size=(1280, 1400)) as page:
        page.open()
        page.page.locator(".jp-CodeCell .cm-content").first.click()
        press_run(page)
        frame = page.page.frame_locator("iframe[title='nblb dashboard']")
        frame.get_by_text("no core answers").wait_for(timeout=90_000)
        address = page.page.locator("iframe[title='nblb dashboard']").get_attribute("src")
        assert address.startswith(f"{PREFIX}/proxy/"), "through the notebook's own server"

        workers = frame.get_by_label("WKHUB_WORKERS")
        right = workers.input_value()
        workers.fill('[{"nWorkers": -1}]')
        frame.get_by_role("alert").get_by_text("nWorkers").wait_for()
        page.page.screenshot(path=artifacts / "panel-mistake.png")
        frame.get_by_role("button", name="Start core and hub").click()
        frame.get_by_text("not done:").wait_for()
        workers.fill(right)
        frame.get_by_text("✓ valid").wait_for()
        frame.get_by_role("button", name="Save").click()
        frame.get_by_text("saved ").wait_for()
        frame.get_by_role("button", name="Start core and hub").click()
        frame.get_by_text("with 1 hub and 2 workers").wait_for(timeout=90_000)
        frame.get_by_label("Workers of a new hub").fill("1")
        frame.get_by_role("button", name="Add hub").click()
        frame.get_by_text("with 2 hubs and 3 workers").wait_for(timeout=90_000)
        page.page.screenshot(path=artifacts / "panel-started.png")

        page.page.locator(".jp-CodeCell .cm-content").last.click()
        press_run(page)
        page.page.locator(".jp-OutputArea-output").get_by_text("True", exact=True).wait_for(timeout=90_000)
        frame.get_by_role("link", name="Jobs").click()
        frame.get_by_role("link", name="sweep").first.click()
        frame.get_by_text("7 done").wait_for(timeout=60_000)
        frame.get_by_role("link", name="3 is odd").first.click()
        frame.get_by_text("Traceback").first.wait_for(timeout=60_000)
        frame.get_by_text("ValueError: 3 is odd").first.wait_for()
        page.page.screenshot(path=artifacts / "panel-traceback.png")

        frame.get_by_role("link", name="Cluster").click()
        frame.get_by_role("button", name="Stop core …").click()
        frame.get_by_role("button", name="Yes, stop core").click()
        frame.get_by_text("the core and its hubs have ended").wait_for(timeout=60_000)
        frame.get_by_text("no core answers").wait_for(timeout=60_000)
        assert page.errors == []
        assert page.foreign == [], "it asks nothing beyond this machine"
        saved = page.save()
        assert len(json.dumps(saved)) < 20_000, "a saved notebook stays small"
        assert "nblb dashboard at" in json.dumps(saved)


def test_a_tile_of_the_launcher_opens_it(proxied: Lab, to_start: dict[str, Any], artifacts: Path) -> None:
    if not entry_points(group="jupyter_serverproxy_servers", name="nblb"):
        pytest.skip("this installation of nblb is older than its tile: install it again")
    with chromium.page((1280, 900), dark=False) as tab:
        tab.goto(f"{proxied.url}/lab/workspaces/tile?token={proxied.token}&reset")
        tile = tab.locator(".jp-LauncherCard").filter(has_text="nblb dashboard")
        tile.wait_for(timeout=90_000)
        tile.scroll_into_view_if_needed()
        tab.screenshot(path=artifacts / "launcher.png")
        with tab.expect_popup(timeout=90_000) as opened:
            tile.click()
        panel = opened.value
        panel.get_by_text("no core answers").wait_for(timeout=90_000)
        assert panel.url.startswith(f"{proxied.url}/nblb/")
        panel.get_by_role("button", name="Start core and hub").wait_for()
        panel.close()


@pytest.mark.parametrize(("theme", "width"), [(LIGHT, 1280), (DARK, 480)])
def test_in_a_cell_it_is_as_wide_as_the_cell(proxied: Lab, to_start: dict[str, Any], theme: str, width: int) -> None:
    write_notebook(proxied.root / "narrow.ipynb", "%load_ext nblb\n%lb_dashboard")
    with browser_page(proxied, "narrow.ipynb", size=(width, 1000), dark=theme == DARK) as page:
        page.open()
        page.look(theme, width)
        page.run_all()
        box = page.page.locator("iframe[title='nblb dashboard']")
        box.wait_for(timeout=90_000)
        shown = page.page.frame_locator("iframe[title='nblb dashboard']").get_by_text("no core answers")
        shown.wait_for(timeout=90_000)
        inside = next(frame for frame in page.page.frames if "/proxy/" in frame.url)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        wait_until(lambda: inside.evaluate(wide) <= 0, 20, "nothing is cut off")
        dark = inside.evaluate("document.documentElement.classList.contains('dark')")
        assert dark is (theme == DARK)
