"""The cluster card's button and the control panel in a cell open through jupyter-server-proxy, without a login."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.lab import Lab, browser_page, write_notebook

pytest.importorskip("jupyter_server_proxy")
START = "%load_ext nblb\n%lb_start parameters.json --workers 1"


def test_the_button_opens_the_monitor_and_a_cell_the_control_panel(here: Lab, stage: dict[str, Any]) -> None:
    stage["MONITOR_PORT"] = 0
    (here.root / "parameters.json").write_text(json.dumps(stage))
    write_notebook(here.root / "open.ipynb", START, "import nblb as lb\nlb.dashboard('parameters.json')")
    with browser_page(here, "open.ipynb") as page:
        page.open()
        page.run_all()
        button = page.page.get_by_role("button", name="Open monitor")
        button.wait_for(timeout=90_000)
        page.page.wait_for_function(
            "() => [...document.querySelectorAll('button')].some(b => b.textContent === 'Open monitor' && !b.disabled"
            " && b.getAttribute('aria-disabled') !== 'true' && /http/.test(b.title))",
            timeout=90_000,
        )
        with page.page.expect_popup() as opened:
            button.click()
        monitor = opened.value
        monitor.get_by_text("journal: process").wait_for(timeout=60_000)
        assert "/proxy/" in monitor.url
        assert "token" not in monitor.url
        monitor.get_by_role("link", name="Hubs").click()
        monitor.get_by_role("button", name="Drain").wait_for(timeout=60_000)
        assert monitor.get_by_role("button", name="Drain").is_enabled()
        monitor.close()
        frame = page.page.frame_locator("iframe[title='nblb dashboard']")
        frame.get_by_text("✓ core pid").wait_for(timeout=90_000)
        assert "/proxy/" in page.page.locator("iframe[title='nblb dashboard']").get_attribute("src")
