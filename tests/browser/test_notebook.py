"""The first notebook from start to end: real cells on a real cluster, in a real JupyterLab and browser."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from nblb import launch
from tests.browser.lab import Lab, Page, browser_page, write_notebook
from tests.waiting import wait_until

LOAD = "%load_ext nblb\n"
START = "%lb_start parameters.json --no-monitor"
SWEEP = """import nblb as lb, time
@lb.task
def simulate(x, seconds={seconds}):
    if x == 3:
        raise ValueError("x must not be three")
    for step in lb.track(range(5)):
        time.sleep(seconds / 5)
    return x * x
job = simulate.map(range({total}), job="sweep")
job"""

WATCH = """bar => {
    window.seen = new Set();
    const look = () => seen.add(bar.getAttribute("aria-valuenow"));
    new MutationObserver(look).observe(bar, { attributes: true });
}"""


def bar_text(page: Page, card: str) -> str:
    return str(page.card(card).get_by_role("progressbar").first.get_attribute("aria-valuetext"))


def test_a_cell_runs_on_the_cluster_live(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    collect = "print(len(job.results(errors='skip')), repr(job))"
    go = here.root / "go"  # no task goes on before the bar is watched
    gate = f"    import os\n    while not os.path.exists({str(go)!r}):\n        time.sleep(0.01)\n    if x == 3"
    sweep = SWEEP.format(seconds=0.2, total=40).replace("    if x == 3", gate)
    write_notebook(here.root / "first.ipynb", "%load_ext nblb", START, sweep, collect)
    with browser_page(here, "first.ipynb", size=(1280, 1300)) as page:
        page.open()
        page.run_all()
        bar = page.card("sweep").get_by_role("progressbar").first
        bar.wait_for(timeout=60_000)
        cluster = page.card(stage["LB_NAME"])
        for words in ("address", "durability", "2 (", "Scale", "Stop"):
            cluster.get_by_text(words).first.wait_for()
        bar.evaluate(WATCH)
        go.touch()
        wait_until(lambda: page.page.evaluate("seen.size") >= 3, 30, "a bar that moves")
        page.page.screenshot(path=artifacts / "first-running.png")
        wait_until(lambda: "40 of 40 tasks" in bar_text(page, "sweep"), 30, "the sweep's end", every_s=0.2)
        assert page.page.evaluate("seen.size") >= 4
        assert bar_text(page, "sweep") == "40 of 40 tasks, 1 failed"
        assert bar.get_attribute("aria-valuenow") == "100"
        page.page.get_by_text("<Job sweep: 40 of 40").wait_for()
        failure = page.card("sweep").get_by_text("ValueError").first
        failure.click()
        page.card("sweep").get_by_text('raise ValueError("x must not be three")').first.wait_for()
        page.page.screenshot(path=artifacts / "first-done.png")
        saved = page.save()
        assert "40 of 40 tasks, 1 failed" in json.dumps(saved)
        assert page.errors == []
        assert page.foreign == []


def test_cancel_frees_the_workers_while_a_cell_waits(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    sweep = SWEEP.format(seconds=3000, total=20)  # ten minutes until a task asks by itself whether it shall go on
    write_notebook(here.root / "cancel.ipynb", LOAD + START, sweep, "job.wait(); print('waited')")
    with browser_page(here, "cancel.ipynb") as page:
        page.open()
        page.run_all()
        page.card("sweep").get_by_text("▶ 2 running").first.wait_for(timeout=60_000)
        cluster = launch.connect(stage)
        assert [worker.state for worker in cluster.workers()] == ["busy", "busy"]
        page.card("sweep").first.get_by_role("button", name="Cancel").click()
        pressed = time.monotonic()
        wait_until(lambda: [worker.state for worker in cluster.workers()] == ["idle", "idle"], 60, "free workers")
        print(f"\nfree workers {time.monotonic() - pressed:.2f} s after the press (1 s is promised)")
        page.page.get_by_text("waited", exact=True).wait_for(timeout=60_000)
        page.page.locator(".nblb-state").filter(has_text="cancelled").first.wait_for()
        page.page.screenshot(path=artifacts / "cancelled.png")
        cluster.close()


def test_reload_in_the_middle_of_a_job_and_the_kernels_death(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    sweep = SWEEP.format(seconds=0.4, total=900)  # not over before the page is back, however slow
    write_notebook(here.root / "reload.ipynb", LOAD + START, sweep, "job.wait()")
    with browser_page(here, "reload.ipynb") as page:
        page.open()
        page.run_all()
        page.card("sweep").get_by_text("▶ 2 running").first.wait_for(timeout=60_000)
        page.page.wait_for_timeout(1000)
        page.save()
        page.reload()
        bar = page.card("sweep").get_by_role("progressbar").first
        bar.wait_for(timeout=60_000)
        before = bar_text(page, "sweep")
        wait_until(lambda: bar_text(page, "sweep") != before, 20, "the bar to move after the reload")
        page.page.screenshot(path=artifacts / "reloaded.png")
        page.kill_kernel()
        page.reload()
        page.page.locator("progress").first.wait_for()
        outputs = " ".join(page.outputs())
        assert "of 900 tasks" in outputs
        assert "model not found" not in outputs
        page.page.screenshot(path=artifacts / "dead.png")


def test_the_cluster_card_scales_and_stops(here: Lab, stage: dict[str, Any]) -> None:
    write_notebook(here.root / "cluster.ipynb", LOAD + START, "%lb_status")
    with browser_page(here, "cluster.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card(stage["LB_NAME"])
        card.get_by_text("2 (0 busy)").wait_for(timeout=60_000)
        card.get_by_role("spinbutton", name="number of workers").fill("3")
        card.get_by_role("button", name="Scale").click()
        card.get_by_text("3 (0 busy)").wait_for(timeout=60_000)
        card.get_by_role("button", name="Stop", exact=True).click()
        card.get_by_text("■ stopped").wait_for(timeout=60_000)


def test_the_stop_button_frees_the_kernel_and_kill_ends_the_work(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    wait = "import nblb as lb\n@lb.task\ndef sleep():\n    import time; time.sleep(600)\nf = sleep.submit()\nf.result()"
    write_notebook(here.root / "stop.ipynb", LOAD + START, wait)
    with browser_page(here, "stop.ipynb") as page:
        page.open()
        page.run_all()
        cluster = launch.connect(wait_until(lambda: launch.settle(stage) and launch.connect(stage) and stage, 30))
        wait_until(lambda: [row.state for row in cluster.workers()].count("busy") == 1, 30, "the task to run")
        begin = time.monotonic()
        page.command("notebook:interrupt-kernel")
        page.wait_kernel()  # nothing but the stop can free it: the task takes ten minutes
        print(f"\na free kernel {time.monotonic() - begin:.2f} s after the stop (1 s is promised)")
        card = page.card("stopped waiting for sleep")
        card.get_by_role("button", name="Kill").wait_for(timeout=60_000)
        page.page.get_by_text("KeyboardInterrupt: stopped waiting for sleep").wait_for()
        page.page.screenshot(path=artifacts / "stopped.png")
        assert [row.state for row in cluster.workers()].count("busy") == 1  # it goes on
        card.get_by_role("button", name="Kill").click()
        wait_until(lambda: [row.state for row in cluster.workers()] == ["idle", "idle"], 60, "free workers")
        card.get_by_text("It has been killed.").wait_for()
        cluster.close()


LIVE = """import nblb as lb, time
lb.start("parameters.json", monitor=False)
@lb.task
def train():
    for step in range(1000):
        rate = lb.knob("rate", 1, 0, 9)
        print("step", step, "rate", rate)
        lb.emit({"rate": rate})
        time.sleep(0.05)
f = train.submit()
f"""


def test_cards_without_the_extension_show_output_and_steer_the_task(here: Lab, stage: dict[str, Any]) -> None:
    write_notebook(here.root / "steer.ipynb", LIVE, "print('it gave', f.result())")
    with browser_page(here, "steer.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("train").first  # the next cell shows what it waits for, too
        knob = card.get_by_role("slider", name="rate")
        knob.wait_for(timeout=60_000)
        knob.fill("7")  # while the next cell waits
        card.get_by_text("rate 7").wait_for(timeout=60_000)
        card.get_by_role("button", name="Stop early and keep").click()
        page.page.get_by_text("it gave {'rate': 7}").wait_for(timeout=60_000)
        assert page.errors == []


AGAIN = """@lb.task
def simulate(x):
    time.sleep(0.01 if x < 20 else 60)
    return x
job = simulate.map(range({total}), job="sweep")
job"""


def test_the_same_name_with_other_items_takes_what_is_done_and_asks_about_the_rest(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    setup = LOAD + START + "\nimport nblb as lb, time"
    write_notebook(here.root / "again.ipynb", setup, AGAIN.format(total=40))
    with browser_page(here, "again.ipynb") as page:
        page.open()
        page.run_all()
        page.card("sweep").get_by_text("✓ 20 done").wait_for(timeout=60_000)
        page.page.locator(".jp-CodeCell .cm-content").last.click()
        page.page.evaluate(
            """() => { const cell = window.jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel;
            cell.setSource(cell.getSource().replace("range(40)", "range(42)")); }"""
        )
        page.command("notebook:run-cell")
        group = page.page.get_by_role("group", name="earlier job of this name")
        group.get_by_text("other arguments) goes on, 20 of 40 tasks left; 20 results").wait_for(timeout=60_000)
        page.card("sweep").get_by_text("✓ 20 done").wait_for(timeout=60_000)
        cluster = launch.connect(stage)
        page.page.screenshot(path=artifacts / "supersede.png")
        group.get_by_role("button", name="Cancel the earlier one").press("Enter")  # by keyboard
        wait_until(lambda: cluster.jobs()[0]["state"] == "cancelled", 10, "the earlier job's end")
        group.get_by_text("the earlier job was cancelled (other arguments)").wait_for(timeout=60_000)
        assert group.get_by_role("button").count() == 0
        assert [row["counts"]["DONE"] for row in cluster.jobs()] == [20, 20]
        assert page.errors == []
        cluster.close()


WAITS = """import nblb as lb, time
@lb.task
def nap(seconds):
    time.sleep(seconds)
first = nap.map([600, 600], job="first")
while first.counts().get("RUNNING", 0) < 2: time.sleep(0.02)
waits = nap.submit(600)
waits"""


def test_why_a_task_waits_is_said_on_its_state(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    write_notebook(here.root / "why.ipynb", LOAD + START, WAITS, "lb.jobs()", "lb.jobs()", "first.wait()")
    with browser_page(here, "why.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("nap")
        card.get_by_text("… queued").first.wait_for(timeout=60_000)
        page.card("jobs").nth(1).get_by_text("first").wait_for(timeout=60_000)
        older = page.card("jobs").first
        older.get_by_text("lb.jobs() was shown again since").wait_for(timeout=60_000)  # and follows no more
        assert older.get_by_role("progressbar", name="first").count() == 1
        card.get_by_role("button", name="Why?").wait_for()  # a saved picture says its state too, but cannot be asked
        card.locator(".nblb-state").hover()
        card.get_by_role("status").get_by_text("1st of").wait_for(timeout=60_000)
        said = card.get_by_role("status").get_by_text("1st of").inner_text()
        assert said.endswith("in line for 2 workers")
        page.page.screenshot(path=artifacts / "why.png")
        card.get_by_role("button", name="Why?").click()
        page.command("notebook:interrupt-kernel")
        assert page.errors == []
