"""What cards say is true: settings, states, counts, reasons, and what made a result, on a real cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.browser.lab import Lab, browser_page, write_notebook

START = "%load_ext nblb\n%lb_start parameters.json --no-monitor --workers 2\nimport nblb as lb, time, os"


def test_settings_that_the_running_cluster_lacks_are_on_its_card(here: Lab, stage: dict[str, Any]) -> None:
    again = "cluster = lb.start('parameters.json', monitor=False)\ncluster"
    write_notebook(here.root / "settings.ipynb", START, again)
    with browser_page(here, "settings.ipynb") as page:
        page.open()
        page.page.locator(".jp-CodeCell .cm-content").first.click()
        page.command("notebook:run-cell-and-select-next")
        page.page.locator(".nblb-root").get_by_text("● up").wait_for(timeout=60_000)
        changed = {**stage, "LB_CANCEL_GRACE_S": 17}
        (here.root / "parameters.json").write_text(json.dumps(changed))
        page.command("notebook:run-cell")
        page.page.locator(".nblb-notes").get_by_text("LB_CANCEL_GRACE_S").first.wait_for(timeout=60_000)
        assert page.errors == []


def test_hubs_that_cannot_run_tasks_of_this_notebook_are_on_the_card(here: Lab, stage: dict[str, Any]) -> None:
    other = "from nblb.client import compatible\ncompatible.PYTHON = (3, 1)\n"
    other += "cluster = lb.connect('parameters.json')\ncluster"
    write_notebook(here.root / "python.ipynb", START, other)
    with browser_page(here, "python.ipynb") as page:
        page.open()
        page.run_all()
        note = page.page.locator(".nblb-notes").get_by_text("and this process 3.1: tasks from here do not run there")
        note.first.wait_for(timeout=60_000)
        assert page.errors == []


STATES = """@lb.task
def first(go):
    lb.progress(40, "half way")
    while not os.path.exists(go):
        time.sleep(0.01)
    return 20
@lb.task
def second(x):
    return x + 1
f = first.submit('go-on')
g = second.submit(f)"""


def test_blocked_and_running_with_progress_are_said_and_why(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    (here.root / "go-on").unlink(missing_ok=True)
    late = (
        "job = first.map(['go-on'] * 2, job='late')\nwhile job.counts().get('RUNNING', 0) < 1: time.sleep(0.05)\njob[0]"
    )
    write_notebook(here.root / "states.ipynb", START, STATES, "g", "f", late)
    with browser_page(here, "states.ipynb", size=(1280, 1400)) as page:
        page.open()
        page.run_all()
        blocked = page.card("second").first
        blocked.get_by_text("⧗ blocked").wait_for(timeout=60_000)
        page.card("first").first.get_by_text("40 %").first.wait_for(timeout=60_000)
        blocked.get_by_role("button", name="Why?").click()
        blocked.get_by_text("waits for the results of 1 other task").first.wait_for(timeout=30_000)
        late_card = page.page.locator(".nblb-root").last
        late_card.get_by_text("▶ running").wait_for(timeout=60_000)
        late_card.get_by_text("40 %").first.wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "states.png")
        (here.root / "go-on").touch()
        blocked.get_by_text("✓ done").wait_for(timeout=60_000)
        assert page.errors == []


NESTED = """@lb.task
def inner(go):
    while not os.path.exists(go):
        time.sleep(0.01)
    return 5
@lb.task
def outer(go):
    return inner.submit(go)  # its result becomes this task's
f = outer.submit('nested-go')
f"""


def test_a_nested_task_says_what_it_waits_for(here: Lab, stage: dict[str, Any]) -> None:
    (here.root / "nested-go").unlink(missing_ok=True)
    write_notebook(here.root / "nested.ipynb", START, NESTED, "f.result()")
    with browser_page(here, "nested.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("outer").first
        ask = card.get_by_role("button", name="Why?")
        ask.wait_for(timeout=60_000)
        ask.click()
        card.get_by_text("inner").first.wait_for(timeout=30_000)
        (here.root / "nested-go").touch()
        page.page.locator(".jp-OutputArea-output").get_by_text("5", exact=True).wait_for(timeout=60_000)
        card.get_by_text("✓ done").wait_for(timeout=60_000)
        assert page.errors == []


def test_an_executor_is_one_row_and_counts_are_calls(here: Lab, stage: dict[str, Any]) -> None:
    calls = "ex = lb.executor()\nfutures = [ex.submit(pow, 2, n) for n in range(30)]\nsum(f.result() for f in futures)"
    wide = (
        "@lb.task\ndef nap(x): time.sleep(0.01); return x\njob = nap.map(range(300), job='naps')\njob.wait()\nlb.jobs()"
    )
    write_notebook(here.root / "executor.ipynb", START, calls, wide)
    with browser_page(here, "executor.ipynb") as page:
        page.open()
        page.run_all()
        jobs = page.page.get_by_role("group", name="jobs")
        jobs.get_by_text("300 of 300 tasks").wait_for(timeout=60_000)
        jobs.get_by_text("30 of 30 tasks").wait_for()
        assert jobs.locator("li").count() == 2
        assert page.errors == []


KEEP = """@lb.task
def train(n, go):
    for step in range(100_000):
        lb.emit(step)
        time.sleep(0.005)
        if n and os.path.exists(go): break
    if n == 2: raise ValueError("bug")
    return "whole"
job = train.map(range(3), ['stop-go'] * 3, job='trained')
job"""
MEND = "@lb.task\ndef train(n, go): return 'mended'\n"


def test_kept_and_mended_results_on_a_real_job(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    (here.root / "stop-go").unlink(missing_ok=True)
    write_notebook(here.root / "keep.ipynb", START.replace("2", "3"), KEEP, MEND, "print(job.results(), len(job.kept))")
    with browser_page(here, "keep.ipynb") as page:
        page.open()
        cells = page.page.locator(".jp-CodeCell .cm-content")
        cells.first.click()
        for _ in range(2):
            page.command("notebook:run-cell-and-select-next")
        card = page.card("trained")
        keep = card.get_by_role("button", name="Stop early and keep")
        keep.wait_for(timeout=90_000)
        (here.root / "stop-go").touch()
        card.get_by_text("✗ 1 failed").wait_for(timeout=60_000)
        keep.click()
        card.locator('li[data-state="KEPT"]').get_by_text("◑ 1 stopped early").wait_for(timeout=60_000)
        assert not card.get_by_role("button", name="new code").is_visible()
        cells.nth(2).click()  # a press on the card has chosen its own cell
        page.command("notebook:run-cell-and-select-next")
        renew = card.get_by_role("button", name="Retry failed with the new code")
        renew.wait_for(timeout=60_000)

        strip = card.get_by_role("slider", name="every item")
        strip.focus()
        strip.press("End")
        strip.press("Enter")
        item = card.get_by_role("region", name="opened item")
        item.get_by_text("train(n=2, go='stop-go')").wait_for()
        item.get_by_text("peak ").wait_for()
        item.get_by_role("button", name="Retry this item").wait_for()
        page.page.screenshot(path=artifacts / "opened-item.png")
        item.get_by_role("button", name="Retry it with the new code").click()
        item.get_by_text("✓ done").wait_for(timeout=60_000)
        cells.nth(3).click()
        page.command("notebook:run-cell")
        page.page.locator(".jp-OutputArea-output").get_by_text("'whole', 'mended'] 1").wait_for(timeout=60_000)
        assert page.errors == []
