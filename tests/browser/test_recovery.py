"""The cards while the core dies and returns, and after the kernel restarts in the middle of a job."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from nblb import launch
from nblb.launch.presence import present
from tests.browser.lab import Lab, Page, browser_page, write_notebook
from tests.browser.test_notebook import LOAD, START
from tests.waiting import wait_until

TOTAL = 200
HELD_FROM = 100
HALF_WAY = 10  # done at least when the others are held: a worker that is held owes the results of a whole slice
SWEEP = """import nblb as lb, os
@lb.task
def simulate(x):
    with open({log!r}, "a") as file:
        file.write(f"{{x}}\\n")
    while x >= {held} and not os.path.exists({go!r}):
        time.sleep(0.01)
    return x * x
import time
job = simulate.map(range({total}), job="sweep")
job"""
AGAIN = "print(job.results() == [x * x for x in range(200)], 'for all')"


def sweep(here: Lab, name: str) -> tuple[str, Path, Path]:
    """A job that stays where it is after half of its tasks until a file is there; the file, and who has begun."""
    go, log = here.root / f"{name}.go", here.root / f"{name}.log"
    return SWEEP.format(log=str(log), go=str(go), total=TOTAL, held=HELD_FROM), go, log


def begun(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def done(page: Page) -> int:
    text = str(page.card("sweep").last.get_by_role("progressbar").first.get_attribute("aria-valuetext"))
    return int(text.partition(" ")[0])


def test_the_card_says_that_the_core_is_away_and_goes_on_when_it_is_back(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    cell, go, log = sweep(here, "core")
    write_notebook(here.root / "core.ipynb", LOAD + START, cell, AGAIN)
    with browser_page(here, "core.ipynb", (1000, 1100)) as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        card.get_by_role("slider", name="every item").wait_for(timeout=90_000)
        wait_until(lambda: done(page) >= HALF_WAY, 60, "the job to stand")
        parameters = launch.settle(stage)
        [core] = present(parameters.runtime_dir, "core")
        os.kill(core.pid, signal.SIGKILL)
        card.get_by_text("the core is away; the job goes on when it is back").wait_for(timeout=60_000)
        cluster = page.card(stage["LB_NAME"])
        cluster.locator(".nblb-state").filter(has_text="the core is away").wait_for(timeout=60_000)
        assert cluster.get_by_role("button", name="Scale").is_disabled()
        page.page.screenshot(path=artifacts / "core-away.png")
        launch.start(parameters, monitor=False).close()
        cluster.locator(".nblb-state").filter(has_text="● up").wait_for(timeout=60_000)
        go.touch()
        page.page.get_by_text("True for all").wait_for(timeout=90_000)
        wait_until(lambda: done(page) == TOTAL, 20, "the card's end")
        assert card.get_by_text("the core is away").count() == 0
        page.page.screenshot(path=artifacts / "core-back.png")
        assert sorted(set(begun(log))) == list(range(TOTAL))
        assert page.errors == []


def test_a_kernel_restarted_in_the_middle_of_a_job_takes_it_up_again(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    cell, go, log = sweep(here, "restart")
    write_notebook(here.root / "restart.ipynb", LOAD + START, cell)
    with browser_page(here, "restart.ipynb", (1000, 1100)) as page:
        page.open()
        page.run_all()
        page.card("sweep").get_by_role("slider", name="every item").wait_for(timeout=90_000)
        wait_until(lambda: done(page) >= HALF_WAY, 60, "the job to stand")
        page.save()
        page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
        page.page.get_by_text("no word from the kernel").first.wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "restarted.png")
        attach = LOAD + START + "\nimport nblb as lb\njob = lb.attach('sweep')\njob"
        page.page.evaluate(
            """(texts) => { const { content } = window.jupyterapp.shell.currentWidget;
            texts.forEach((text, i) => content.widgets[i].model.sharedModel.setSource(text)); }""",
            [attach, AGAIN],
        )
        page.wait_kernel()
        page.run_all()
        page.card("sweep").get_by_role("slider", name="every item").wait_for(timeout=60_000)
        wait_until(lambda: done(page) >= HALF_WAY, 20, "the card to follow the job again")
        page.page.screenshot(path=artifacts / "attached.png")
        go.touch()
        page.page.get_by_text("True for all").wait_for(timeout=90_000)
        page.page.screenshot(path=artifacts / "attached-done.png")
        assert sorted(begun(log)) == list(range(TOTAL))  # nothing was computed twice
        assert page.errors == []
