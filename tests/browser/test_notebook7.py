"""The same cards in Notebook 7: one server, and a page with its own notebook for each test."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb import launch
from tests.browser import waits
from tests.browser.lab import PRESSED_WHILE_COMPUTING_S, Lab, browser_page, lab, write_notebook
from tests.notebook.kernels import ROOT
from tests.waiting import wait_until

SETUP = "from tests.notebook import fakes\nfakes.install()\n"
OWN = "'schema'"  # an error that Notebook's page has without us too


@pytest.fixture(scope="module")
def notebook7(tmp_path_factory: pytest.TempPathFactory, runtime_base: Path) -> Iterator[Lab]:
    pytest.importorskip("notebook", minversion="7")
    runtime = Path(tempfile.mkdtemp(dir=runtime_base))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with lab(tmp_path_factory.mktemp("notebook"), runtime, app="notebook", PYTHONPATH=path) as here:
        yield here


def test_cards_live_in_notebook_7(notebook7: Lab, artifacts: Path) -> None:
    compute = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: sum(range(10_000))"
    write_notebook(notebook7.root / "a.ipynb", SETUP + "job = fakes.FakeJob(total=4000, bad={3})\njob", compute)
    with browser_page(notebook7, "a.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        card.get_by_role("progressbar").wait_for()
        page.page.wait_for_function("() => +document.querySelector('[role=progressbar]').ariaValueNow >= 2")
        card.get_by_role("button", name="Cancel").click()  # while the kernel computes
        page.page.locator(".nblb-state").filter(has_text="cancelled").wait_for(timeout=1500 * PRESSED_WHILE_COMPUTING_S)
        page.page.screenshot(path=artifacts / "notebook7.png")
        assert [error for error in page.errors if OWN not in error] == []
        assert page.foreign == []


def test_notebook_7_waits_cancels_shows_output_and_takes_up_a_reloaded_page(
    notebook7: Lab, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, artifacts: Path
) -> None:
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(notebook7.runtime))
    settings["LB_NAME"] = f"t-{uuid.uuid4().hex[:8]}"
    (notebook7.root / "parameters.json").write_text(json.dumps(settings))
    go = {name: notebook7.root / f"go-{name}" for name in ("result", "loop")}
    write_notebook(notebook7.root / "b.ipynb", waits.SETUP, *(waits.cell(name, go[name]) for name in go))
    try:
        with browser_page(notebook7, "b.ipynb") as page:
            page.open()
            page.run_all()
            card = page.card("result")
            card.get_by_text("▶ 2 running").wait_for(timeout=60_000)
            card.locator("summary").filter(has_text="output").click()
            card.locator("pre.nblb-out").filter(has_text="item 1 is here").wait_for(timeout=60_000)
            go["result"].touch()
            card.get_by_text("✓ 4 done").wait_for(timeout=60_000)
            card.get_by_role("button", name="Cancel").click()
            page.page.get_by_text("result is over", exact=True).wait_for(timeout=60_000)
            page.card("loop").get_by_text("▶ 2 running").wait_for(timeout=60_000)
            page.save()
            page.reload()  # while the cell is in its loop
            card = page.card("loop")
            card.get_by_text("▶ 2 running").wait_for(timeout=60_000)
            go["loop"].touch()
            card.get_by_text("✓ 4 done").wait_for(timeout=60_000)
            page.page.screenshot(path=artifacts / "notebook7-waits.png")
            card.get_by_role("button", name="Cancel").click()
            card.locator(".nblb-state").filter(has_text="cancelled").wait_for(timeout=60_000)
            page.wait_kernel()  # the loop is over
            cluster = launch.connect(settings)
            wait_until(lambda: {worker.state for worker in cluster.workers()} == {"idle"}, 30, "free workers")
            cluster.close()
            assert [error for error in page.errors if OWN not in error] == []
    finally:
        launch.stop(settings)
