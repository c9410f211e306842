"""Waits that show what they wait for, in a real JupyterLab: once, by themselves, with a bar as long as the progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.browser.lab import Lab, browser_page, write_notebook

START = "%load_ext nblb\n%lb_start parameters.json --no-monitor --workers 2\nimport nblb as lb, time"
TASK = """@lb.task
def fit(seed, n=20):
    for step in lb.track(range(n)):
        time.sleep(0.15)
    return seed
"""
BAR = """() => { const bar = document.querySelector('.nblb-root[aria-label=sweep] [role=progressbar]');
    const filled = [...bar.children].reduce((sum, part) => sum + part.getBoundingClientRect().width, 0);
    return [100 * filled / bar.getBoundingClientRect().width, +bar.ariaValueNow]; }"""


def test_readmes_ten_lines_show_the_job_with_a_bar_as_long_as_its_progress(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    write_notebook(
        here.root / "ten.ipynb", START + "\n" + TASK + "job = fit.map(range(4), job='sweep')\nsum(job.results())"
    )
    with browser_page(here, "ten.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        card.get_by_role("progressbar").wait_for()
        page.page.wait_for_function(
            "() => +[...document.querySelectorAll('[role=progressbar]')].at(-1).ariaValueNow >= 15"
        )
        filled, percent = page.page.evaluate(BAR)
        assert abs(filled - percent) <= 3, "running items fill what they have done"
        card.get_by_text("left").first.wait_for()
        page.page.screenshot(path=artifacts / "awaited-job.png")
        card.get_by_text("took").wait_for()
        assert page.page.locator(".nblb-root").filter(has_text="sweep").count() == 1
        assert page.errors == []


def test_a_loop_over_futures_joblib_and_an_executor_show_one_card_each(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    write_notebook(
        here.root / "several.ipynb",
        START + "\n" + TASK,
        "[f.result() for f in [fit.submit(n, 6) for n in range(4)]]",
        "import joblib\nwith joblib.parallel_config('nblb'):\n"
        "    joblib.Parallel()(joblib.delayed(time.sleep)(0.8) for n in range(4))",
        "with lb.executor() as ex:\n    print(list(ex.map(fit.options(name='calls'), range(4), [6] * 4)))",
        "done = lb.wait([fit.submit(n, 6) for n in range(3)])",
    )
    with browser_page(here, "several.ipynb") as page:
        page.open()
        page.run_all()
        for name in ("4 × fit", "joblib-1", "executor-1", "3 × fit"):
            page.card(name).get_by_text("took").wait_for(timeout=60_000)
            assert page.page.locator(".nblb-root").filter(has_text=name).count() == 1
            assert page.card(name).get_by_role("button", name="Retry failed").count() == 0
        page.page.screenshot(path=artifacts / "awaited-several.png")
        assert page.errors == []


def test_a_dead_core_and_a_stopped_cluster_are_started_by_their_cards(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    write_notebook(
        here.root / "start.ipynb",
        START + "\n" + TASK + "cluster = lb.connect('parameters.json')",
        "job = fit.map(range(6), [20] * 6, job='sweep')\njob",
        "import os, signal\nos.kill(cluster.status().core.pid, signal.SIGKILL)",
        "cluster",
    )
    with browser_page(here, "start.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        start = card.get_by_role("button", name="Start core")
        start.wait_for(timeout=30_000)
        card.get_by_text("Start core, or %lb_start, starts it again").wait_for()
        page.page.screenshot(path=artifacts / "core-away.png")
        start.click()
        card.get_by_text("took").wait_for(timeout=60_000)
        assert start.count() == 0 or not start.is_visible()
        cluster = page.page.locator(".nblb-root").last
        cluster.get_by_text("0 waiting, 0 running").wait_for(timeout=30_000)
        cluster.get_by_role("button", name="Stop", exact=True).click()
        again = cluster.get_by_role("button", name="Start", exact=True)
        again.wait_for(timeout=30_000)
        page.page.screenshot(path=artifacts / "cluster-stopped.png")
        again.click()
        cluster.get_by_role("button", name="Stop", exact=True).wait_for(timeout=30_000)
        cluster.get_by_text("● up").wait_for()
        page.page.screenshot(path=artifacts / "cluster-started.png")
        assert page.errors == []


def test_a_cell_under_lb_shows_its_progress(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    write_notebook(here.root / "cell.ipynb", START, "%%lb\nfor n in lb.track(range(30)):\n    time.sleep(0.1)\nn")
    with browser_page(here, "cell.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("cell")
        card.get_by_role("progressbar").wait_for(timeout=30_000)
        page.page.wait_for_function(
            "() => +document.querySelector('.nblb-root[aria-label=cell] [role=progressbar]').ariaValueNow >= 20"
        )
        page.page.screenshot(path=artifacts / "cell-progress.png")
        page.page.locator(".jp-OutputArea-output").get_by_text("29", exact=True).wait_for(timeout=30_000)
        assert page.errors == []


def test_the_browser_tells_of_the_end_if_asked(here: Lab, stage: dict[str, Any]) -> None:
    write_notebook(here.root / "tell.ipynb", START + "\n" + TASK + "job = fit.map(range(4), [36] * 4, job='long')\njob")
    with browser_page(here, "tell.ipynb") as page:
        page.open()
        page.page.evaluate(
            """() => { window.told = []; window.Notification = class { constructor(title, about) {
            window.told.push([title, about.body]); } static permission = "default";
            static async requestPermission() { this.permission = "granted"; return "granted"; } }; }"""
        )
        page.run_all()
        card = page.card("long")
        card.get_by_role("button", name="Notify me").click(timeout=60_000)
        card.get_by_role("button", name="Will notify").wait_for()
        card.get_by_text("took").wait_for(timeout=60_000)
        assert page.page.evaluate("() => window.told") == [["long: done", "4 of 4 tasks"]]
        assert page.errors == []


def test_a_card_that_ends_keeps_its_height_and_says_what_of_the_output_it_shows(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    talk = (
        "@lb.task\ndef talk(n):\n    for line in range(20):\n        print('line', line)\n        time.sleep(0.05)\n"
        "job = talk.map(range(3), job='talk')\njob"
    )
    write_notebook(here.root / "talk.ipynb", START + "\n" + talk)
    with browser_page(here, "talk.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("talk")
        card.get_by_text("running now").wait_for(timeout=30_000)
        tall = page.page.evaluate("() => document.querySelector('.nblb-root[aria-label=talk]').clientHeight")
        card.get_by_text("took").wait_for(timeout=30_000)
        assert page.page.evaluate("() => document.querySelector('.nblb-root[aria-label=talk]').clientHeight") >= tall
        card.get_by_text("last 8 of 60 lines; %lb_logs talk[2] shows all of item 2").wait_for()
        page.page.screenshot(path=artifacts / "talk.png")
        assert page.errors == []
