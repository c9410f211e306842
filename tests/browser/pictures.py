"""Makes the pictures of README.md from a real run (python -m tests.browser.pictures); look at them, then commit."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from nblb import launch
from tests.browser.lab import Page, browser_page, lab, write_notebook
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
COLOURS = 128  # of a picture: a third of the bytes, and the eye sees no difference
LOAD = "%load_ext nblb\nimport nblb as lb\n\n%lb_start parameters.json"
SWEEP = """import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

digits = load_digits()

@lb.task
def accuracy(model):
    scores = []
    for seed in lb.track(range(4), note=str(model)):
        order = np.random.default_rng(seed).permutation(len(digits.target))[:1000]
        scores += list(cross_val_score(model, digits.data[order], digits.target[order], error_score="raise"))
    print(f"{model} reads {np.mean(scores):.1%} of the digits")
    return np.mean(scores)

gammas = [0.0001, 0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01]
models = [SVC(C=c, gamma=g) for g in gammas for c in range(11)]
job = accuracy.map(models, job="digits")
job"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="nblb") as folder:
        runtime = Path(folder) / "run"
        os.environ["NBLB_RUNTIME_DIR"] = str(runtime)
        work = Path(folder) / "notebooks"
        work.mkdir()
        parameters = json.loads((ROOT / "notebooks" / "parameters.json").read_text())
        parameters["LB_STATE_DIR"] = f"{folder}/state"
        (work / "parameters.json").write_text(json.dumps(parameters))
        write_notebook(work / "digits.ipynb", LOAD, SWEEP)
        try:
            with lab(work, runtime) as here, browser_page(here, "digits.ipynb", (1100, 980)) as page:
                page.open()
                page.run_all()
                notebook(page)
                monitor(page, parameters)
        finally:
            launch.stop(parameters)


def notebook(page: Page) -> None:
    card = page.card("digits").first
    bar = card.get_by_role("progressbar").first
    card.locator("summary").filter(has_text="output").click(timeout=120_000)
    wait_until(lambda: float(bar.get_attribute("aria-valuenow") or 0) >= 60, 150, "more than half of the job", 0.2)
    card.evaluate("(card) => card.scrollIntoView({block: 'end'})")
    page.page.wait_for_timeout(500)
    save(page.page, "notebook.png")


def monitor(page: Page, parameters: dict[str, Any]) -> None:
    url = launch.monitor_url(launch.settle(parameters))
    view = page.page.context.new_page()
    view.set_viewport_size({"width": 1100, "height": 480})
    view.goto(url)
    view.get_by_text("worker_").first.wait_for()
    save(view, "monitor.png")


def save(view: Any, name: str) -> None:
    picture = Image.open(io.BytesIO(view.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main()
