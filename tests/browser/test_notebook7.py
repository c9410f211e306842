"""The same cards in Notebook 7."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.browser.lab import PRESSED_WHILE_COMPUTING_S, browser_page, lab, write_notebook
from tests.notebook.kernels import ROOT

SETUP = "from tests.notebook import fakes\nfakes.install()\n"


def test_cards_live_in_notebook_7(tmp_path: Path, runtime_base: Path, artifacts: Path) -> None:
    pytest.importorskip("notebook", minversion="7")
    runtime = Path(tempfile.mkdtemp(dir=runtime_base))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with lab(tmp_path, runtime, app="notebook", PYTHONPATH=path) as here:
        compute = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: sum(range(10_000))"
        write_notebook(tmp_path / "a.ipynb", SETUP + "job = fakes.FakeJob(total=4000, bad={3})\njob", compute)
        with browser_page(here, "a.ipynb") as page:
            page.open()
            page.run_all()
            card = page.card("sweep")
            card.get_by_role("progressbar").wait_for()
            page.page.wait_for_function("() => +document.querySelector('[role=progressbar]').ariaValueNow >= 2")
            card.get_by_role("button", name="Cancel").click()  # while the kernel computes
            page.page.locator(".nblb-state").filter(has_text="cancelled").wait_for(
                timeout=1500 * PRESSED_WHILE_COMPUTING_S
            )
            page.page.screenshot(path=artifacts / "notebook7.png")
            assert [error for error in page.errors if "'schema'" not in error] == []  # Notebook's own, without us too
            assert page.foreign == []
