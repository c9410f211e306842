"""While a cell waits for tasks in any way, its card stays live and its buttons work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.browser import waits
from tests.browser.lab import Lab, browser_page, write_notebook


def test_bars_and_buttons_work_however_a_cell_waits(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    go = {name: here.root / f"go-{name}" for name in waits.WAYS}
    write_notebook(here.root / "waits.ipynb", waits.SETUP, *(waits.cell(name, go[name]) for name in waits.WAYS))
    with browser_page(here, "waits.ipynb", size=(1280, 1600)) as page:
        page.open()
        page.run_all()
        for name in waits.WAYS:
            card = page.card(name)
            card.get_by_text("▶ 2 running").wait_for(timeout=60_000)
            assert card.get_by_text("✓ 0 done").count() == 1
            go[name].touch()
            card.get_by_text("✓ 4 done").wait_for(timeout=60_000)
            card.get_by_role("button", name="Cancel").click()
            page.page.get_by_text(f"{name} is over", exact=True).wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "waits.png")
        assert page.errors == []
