"""Front-ends that isolate their outputs (VS Code and Colab), as far as JupyterLab can imitate them.

The kernel believes that it runs under VS Code: each card is an ordinary widget view. What VS Code does beyond that
is read in its sources, not tried, since its Jupyter extension comes from marketplaces alone: it draws the next kind
of a bundle, the HTML picture, where the kernel does not hold the model, and it knows a view by its display_data.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import Lab, browser_page, lab, write_notebook
from tests.notebook.kernels import ROOT

SETUP = "from tests.notebook import fakes\nfakes.install()\n"
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def vscode(tmp_path_factory: pytest.TempPathFactory, runtime_base: Path) -> Iterator[Lab]:
    """A JupyterLab whose kernels are told that they were started by VS Code."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    runtime = Path(tempfile.mkdtemp(dir=runtime_base))
    with lab(tmp_path_factory.mktemp("vscode"), runtime, PYTHONPATH=path, VSCODE_PID="1") as here:
        yield here


def bundles(saved: dict[str, Any], cell: int) -> list[dict[str, Any]]:
    return [output["data"] for output in saved["cells"][cell]["outputs"] if "data" in output]


def test_a_card_is_a_view_while_it_lives_and_a_picture_in_the_end(vscode: Lab, artifacts: Path) -> None:
    job = SETUP + "job = fakes.FakeJob(total=8000, bad={3})\njob"
    write_notebook(vscode.root / "a.ipynb", job)
    with browser_page(vscode, "a.ipynb") as page:
        page.open()
        page.run_all()
        card = page.page.locator(".jp-OutputArea-output .nblb-card .nblb-root")
        card.get_by_role("progressbar").wait_for(timeout=60_000)
        page.page.wait_for_function("() => +document.querySelector('[role=progressbar]').ariaValueNow >= 2")
        [live] = bundles(page.save(), 0)
        assert {VIEW, "text/html", "text/plain"} <= live.keys()  # a front-end without the model shows the picture
        assert "nblb-live-" not in json.dumps(live["text/html"])  # and nobody looks for a place in the page
        page.page.screenshot(path=artifacts / "apart.png")
        card.get_by_role("button", name="Cancel").click()
        page.page.locator(".jp-OutputArea-output").get_by_text("⊘ cancelled").first.wait_for(timeout=60_000)
        assert page.errors == []
        assert page.foreign == []


def test_the_view_gives_way_to_the_picture_when_nothing_is_left_to_press(vscode: Lab, artifacts: Path) -> None:
    write_notebook(vscode.root / "b.ipynb", SETUP + "job = fakes.FakeJob(total=40, bad=set())\njob")
    with browser_page(vscode, "b.ipynb") as page:
        page.open()
        page.run_all()
        page.page.locator("progress").first.wait_for(timeout=60_000)  # the saved picture's bar
        [over] = bundles(page.save(), 0)
        assert VIEW not in over
        assert "40 of 40" in "".join(over["text/plain"])
        page.page.screenshot(path=artifacts / "apart-over.png")
        page.kill_kernel()
        page.reload()
        page.page.locator("progress").first.wait_for(timeout=60_000)
        assert "model not found" not in " ".join(page.outputs())
