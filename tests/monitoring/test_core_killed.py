"""The core is killed and started again under open pages: they say so, and go on without a reload."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb import launch
from nblb.launch import monitor_links
from tests.browser import chromium
from tests.monitoring.served import browser_page
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing()),
]


@pytest.fixture(scope="module", autouse=True)
def _one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with chromium.shared(tmp_path_factory.mktemp("chromium")):
        yield


@pytest.fixture
def running(settings: dict[str, Any], tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps(settings))
    try:
        yield file
    finally:
        launch.stop(settings)


def kill_core(settings: dict[str, Any]) -> None:
    with launch.connect(settings) as cluster:
        os.kill(cluster.status()["pid"], signal.SIGKILL)


@pytest.mark.parametrize("where", ["now", "tasks", "health"])
def test_the_monitor_goes_on(settings: dict[str, Any], running: Path, where: str) -> None:
    launch.start(settings).close()
    url = wait_until(lambda: monitor_links.owners_link(launch.settle(settings)), 60, "the Monitor")
    with browser_page() as page:
        page.goto(f"{url}&page={where}")
        page.get_by_text("cluster t on").wait_for()
        page.evaluate("window.stays = true")
        kill_core(settings)
        page.get_by_role("alert").get_by_text("Core unreachable").first.wait_for(timeout=30_000)
        page.get_by_text("This page goes on by itself").first.wait_for()
        launch.start(settings).close()
        page.get_by_text("Core unreachable").wait_for(state="detached", timeout=60_000)
        page.locator(".facts", has_text="Workers2").wait_for(timeout=60_000)
        assert page.evaluate("window.stays") is True, "it was not loaded anew"
        assert page.complaints == []


def test_the_control_panel_goes_on(settings: dict[str, Any], running: Path) -> None:
    import nblb as lb

    shown = lb.dashboard(running)
    try:
        with browser_page() as page:
            page.goto(shown.link)
            assert "token" not in page.url
            page.get_by_text("no core answers").wait_for()
            assert page.get_by_text("Core unreachable").count() == 0, "nothing has gone: nothing was there"
            page.set_viewport_size({"width": 390, "height": 800})
            wait_until(lambda: page.evaluate("document.documentElement.scrollWidth") <= 390, 10, "a phone's width")
            page.set_viewport_size({"width": 1280, "height": 800})
            page.evaluate("window.stays = true")
            page.get_by_role("button", name="Start core and hub").click()
            page.get_by_text("✓ core pid").wait_for(timeout=60_000)
            kill_core(settings)
            page.get_by_text("no core answers").wait_for(timeout=30_000)
            page.get_by_role("button", name="Start core and hub").click()
            page.get_by_text("✓ core pid").wait_for(timeout=60_000)
            assert page.evaluate("window.stays") is True
            assert page.complaints == []
    finally:
        shown.stop()
