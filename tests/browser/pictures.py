"""Makes the pictures of README.md from a real run (python -m tests.browser.pictures); look at them, then commit."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from nblb import launch
from tests.browser.lab import Page, browser_page, lab
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="nblb") as folder:
        runtime = Path(folder) / "run"
        os.environ["NBLB_RUNTIME_DIR"] = str(runtime)
        work = Path(folder) / "notebooks"
        shutil.copytree(ROOT / "notebooks", work)
        parameters = json.loads((work / "parameters.json").read_text()) | {"LB_STATE_DIR": f"{folder}/state"}
        (work / "parameters.json").write_text(json.dumps(parameters))
        try:
            with lab(work, runtime) as here, browser_page(here, "1-first-task.ipynb", (1100, 820)) as page:
                page.open()
                page.run_all()
                notebook(page)
                monitor(page, parameters)
        finally:
            launch.stop(parameters)


def notebook(page: Page) -> None:
    card = page.card("digits").first
    bar = card.get_by_role("progressbar").first
    wait_until(lambda: float(bar.get_attribute("aria-valuenow") or 0) >= 55, 120, "the job half done", every_s=0.2)
    card.evaluate("(card) => card.scrollIntoView({block: 'center'})")
    page.page.screenshot(path=IMAGES / "notebook.png")


def monitor(page: Page, parameters: dict[str, Any]) -> None:
    url = launch.monitor_url(launch.settle(parameters))
    view = page.page.context.new_page()
    view.set_viewport_size({"width": 1100, "height": 480})
    view.goto(url)
    view.get_by_text("worker_").first.wait_for()
    view.screenshot(path=IMAGES / "monitor.png")


if __name__ == "__main__":
    main()
