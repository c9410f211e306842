"""lb.jobs() and lb.inbox() in a real page: live bars, and buttons that attach, cancel and drop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nblb import launch
from tests.browser.lab import Lab, browser_page, write_notebook
from tests.browser.test_notebook import LOAD, START
from tests.waiting import wait_until

JOBS = """import nblb as lb, time
@lb.task
def nap(seconds):
    time.sleep(seconds)
    return seconds
quick = nap.map([0.01] * 30, job="quick")
long = nap.map([0.3] * 200, job="long")
lb.jobs()"""


def test_jobs_are_followed_taken_up_cancelled_and_forgotten(
    here: Lab,
    stage: dict[str, Any],
    artifacts: Path,
) -> None:
    write_notebook(here.root / "jobs.ipynb", LOAD + START, JOBS, "time.sleep(6)")
    with browser_page(here, "jobs.ipynb", size=(1280, 1200)) as page:
        page.open()
        page.run_all()
        card = page.card("jobs")
        bar = card.get_by_role("progressbar", name="long").first
        bar.wait_for(timeout=60_000)
        wait_until(lambda: int(bar.get_attribute("aria-valuenow") or 0) >= 3, 30, "the bar to move while a cell sleeps")
        card.get_by_role("list", name="ended").get_by_text("quick").wait_for(timeout=60_000)
        card.get_by_role("button", name="Attach long").press("Enter")
        below = card.get_by_role("group", name="long")
        below.get_by_role("slider", name="every item").wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "jobs.png")
        card.get_by_role("button", name="Cancel long").click()
        below.locator(".nblb-state").filter(has_text="cancelled").wait_for(timeout=60_000)
        forget = card.get_by_role("button", name="Forget quick")
        forget.click()
        card.get_by_role("button", name="Forget the results of quick").click()
        cluster = launch.connect(stage)
        wait_until(lambda: [row["name"] for row in cluster.jobs()] == ["long"], 10, "the job to be forgotten")
        card.get_by_text("quick", exact=True).wait_for(state="detached", timeout=60_000)
        assert page.errors == []
        cluster.close()


SUBMIT = """import nblb as lb, time
@lb.task
def nap(x):
    time.sleep(1)
    if x == 3: raise ValueError("three")
    return x
job = nap.map(range(6), job="overnight")
single = nap.submit(7)"""
LOOK = "%load_ext nblb\nimport nblb as lb\n%lb_start parameters.json --no-monitor\n%lb_inbox"


def test_what_ended_while_nobody_was_there_is_a_click_away(
    here: Lab,
    stage: dict[str, Any],
    artifacts: Path,
) -> None:
    write_notebook(here.root / "inbox.ipynb", LOAD + START, SUBMIT)
    with browser_page(here, "inbox.ipynb") as page:
        page.open()
        page.run_all()
        cluster = launch.connect(wait_until(lambda: launch.settle(stage) and launch.connect(stage) and stage, 30))
        wait_until(lambda: len(cluster.jobs()) == 1, 30, "the job")
        page.kill_kernel()
        wait_until(lambda: cluster.jobs()[0]["state"] == "failed", 30, "its end")
        wait_until(lambda: cluster.status().running == 0, 30, "the single task's end")
        cluster.close()
    write_notebook(here.root / "inbox.ipynb", LOOK, "overnight.results(errors='skip')")
    with browser_page(here, "inbox.ipynb") as page:
        page.open()
        page.page.locator(".jp-CodeCell .cm-content").first.click()
        page.command("notebook:run-cell")
        card = page.card("inbox")
        card.get_by_text("2 ended while nobody was here").wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "inbox.png")
        card.get_by_role("button", name="Attach overnight").press("Enter")
        card.get_by_text("overnight is a variable now").wait_for(timeout=60_000)
        card.get_by_role("group", name="overnight").get_by_text("5 done").wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "inbox-attached.png")
        page.page.locator(".jp-CodeCell .cm-content").last.click()
        page.command("notebook:run-cell")
        page.page.get_by_text("[0, 1, 2, 4, 5]").wait_for(timeout=60_000)
        assert "overnight" in str(page.save())
        assert page.errors == []


def test_clusters_and_jobs_are_in_the_sidebar(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    pytest.importorskip("sidecar")
    nap = JOBS.partition("quick")[0] + "job = nap.map([0.2] * 60, job='aside')"
    write_notebook(here.root / "side.ipynb", LOAD + START, "%lb_sidebar", nap)
    with browser_page(here, "side.ipynb", size=(1600, 1000)) as page:
        page.open()
        page.run_all()
        side = page.page.locator("#jp-right-stack")
        side.get_by_text("● up").wait_for(timeout=60_000)
        row = side.get_by_role("listitem").filter(has_text="aside")
        row.get_by_text("▶ running").wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "sidebar.png")
        row.get_by_text("60 of 60 tasks").wait_for(timeout=60_000)
        assert page.page.locator(".jp-Notebook .nblb-root").count() == 1, "the sidebar's cards are not in the cell"
        assert page.errors == []
