"""The prints, plots and displays of tasks, in a real JupyterLab on a real cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.browser.lab import Lab, Page, browser_page, write_notebook
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
START = "%load_ext nblb\n%lb_start parameters.json --no-monitor"


def source(name: str, containing: str) -> str:
    """The cell of a notebook of ours that has this in it."""
    cells = json.loads((ROOT / "notebooks" / name).read_text())["cells"]
    (found,) = [text for cell in cells if containing in (text := "".join(cell["source"]))]
    return found


COUNT_FRAMES = """(selector) => {
    window.frames_seen = new Set();
    window.frames_from = performance.now();
    new MutationObserver(() => {
        for (const node of document.querySelectorAll(selector)) if (node.src) window.frames_seen.add(node.src);
    }).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ['src'] });
}"""


def frames(page: Page) -> int:
    return int(page.page.evaluate("() => window.frames_seen.size"))


def test_a_live_plot_of_a_sweep_in_three_lines_of_notebook(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    name = "2-live-plot.ipynb"
    cells = [
        START,
        "import nblb as lb",
        source(name, "def descend").replace("steps=60", "steps=200"),  # a slow page, too, sees some of them
        source(name, "plt.close"),
        source(name, "in job.live"),
    ]
    write_notebook(here.root / "plot.ipynb", *cells, "print('over', job.done())")
    with browser_page(here, "plot.ipynb", size=(1280, 1500)) as page:
        page.open()
        page.page.evaluate(COUNT_FRAMES, ".jp-OutputArea-output img")
        page.run_all()
        page.page.wait_for_function("() => window.frames_seen.size >= 3", timeout=90_000)
        page.page.screenshot(path=artifacts / "live-plot.png")
        page.page.get_by_text("over True").wait_for(timeout=60_000)
        assert page.errors == []
        assert page.foreign == []


def test_a_figure_that_a_task_emits_is_drawn_live_on_its_card(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    wave = source("2-live-plot.ipynb", "def wave").replace("frames=30", "frames=60")
    write_notebook(here.root / "wave.ipynb", START, f"import nblb as lb, time\n{wave}")
    with browser_page(here, "wave.ipynb") as page:
        page.open()
        page.page.evaluate(COUNT_FRAMES, ".nblb-pictures img")
        page.run_all()
        page.page.wait_for_function("() => window.frames_seen.size >= 2", timeout=60_000)
        page.page.screenshot(path=artifacts / "live-figure.png")
        before = frames(page)
        begin = page.page.evaluate("() => performance.now()")
        page.page.wait_for_function(f"() => window.frames_seen.size >= {before + 5}", timeout=60_000)
        took_s = (page.page.evaluate("() => performance.now()") - begin) / 1000
        print(f"\n{5 / took_s:.1f} frames a second on the card")
        page.page.get_by_text("DONE").or_(page.page.get_by_text("✓ done")).first.wait_for(timeout=60_000)
        assert page.errors == []


TALK = """import nblb as lb
@lb.task
def talk():
    import ctypes, logging, os, subprocess, time, warnings
    from tqdm.auto import tqdm
    logging.getLogger().setLevel(logging.INFO)
    logging.info("data is here")
    warnings.warn("this is slow")
    os.write(2, b"C speaks\\n")
    subprocess.run(["echo", "a child speaks"])
    for epoch in tqdm(range(5), desc="epochs"):
        for batch in tqdm(range(8), desc="batches", leave=False):
            time.sleep(0.05)
    return "fine"
f = talk.submit()
f"""


def test_bars_logging_warnings_and_children_of_unchanged_code(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    write_notebook(here.root / "talk.ipynb", START, TALK, "f.result()")
    with browser_page(here, "talk.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("talk")
        card.get_by_text("batches").first.wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "nested-bars.png")
        for words in ("INFO:root:data is here", "UserWarning: this is slow", "C speaks", "a child speaks"):
            card.locator("pre.nblb-out").filter(has_text=words).wait_for(timeout=60_000)
        text = card.locator("pre.nblb-out").inner_text()
        assert 'warnings.warn("this is slow")' in text
        assert "Cell In[2]:8: UserWarning" in text
        page.page.get_by_text("'fine'").wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "talk-done.png")
        assert page.errors == []


BARS = """import nblb as lb, os, time
def pause(go, here):  # longer than a bar keeps its latest step to itself; then until the page has been looked at
    time.sleep(0.15)
    while here and not os.path.exists(go):
        time.sleep(0.01)
@lb.task
def fit(go):
    from tqdm.notebook import tqdm, trange
    for epoch in trange(4, desc="epochs"):
        for batch in tqdm(range(8), desc="batches", leave=False):
            pause(go, (epoch, batch) == (1, 2))
@lb.task
def read(go):
    from rich.progress import Progress
    with Progress() as bars:
        files = bars.add_task("[red]files", total=3)
        for file in range(3):
            lines = bars.add_task(f"lines of file {file}", total=400)
            for line in range(4):
                pause(go, (file, line) == (1, 2))
                bars.update(lines, advance=100)
            bars.update(lines, visible=False)
            bars.advance(files)
tasks = [fit.submit(GO), read.submit(GO)]
for task in tasks: display(task)
print([task.result() for task in tasks])"""


def test_nested_bars_of_unchanged_code_are_read_while_they_run(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    go = here.root / "go-bars"
    write_notebook(here.root / "bars.ipynb", START, f"GO = {str(go)!r}\n{BARS}")
    with browser_page(here, "bars.ipynb", size=(1280, 1300)) as page:
        page.open()
        page.run_all()
        for name, percent, said in (
            ("fit", "25", "epochs 1/4 · batches 2/8"),
            ("read", "33", "files 1/3 · lines of file 1 200/400"),
        ):
            card = page.card(name)
            card.get_by_text(said).wait_for(timeout=60_000)
            assert card.get_by_role("progressbar").get_attribute("aria-valuenow") == percent
            assert card.locator("pre.nblb-out").inner_text() == ""  # no bar is drawn into the output
        page.page.screenshot(path=artifacts / "bars.png")
        go.touch()
        page.page.get_by_text("[None, None]").wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "bars-over.png")
        assert page.errors == []


FLOOD = """import nblb as lb
@lb.task
def flood():
    for number in range(60_000):
        print(number, "x" * 90)
    return number
f = flood.submit()
f"""


def test_a_flood_is_bounded_where_it_shows_and_whole_where_it_is_kept(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    count = "f.result(); print(f.stdout.count(chr(10)), 'lines')"
    write_notebook(here.root / "flood.ipynb", START, FLOOD, count)
    with browser_page(here, "flood.ipynb") as page:
        received = [0]
        page.page.on("websocket", lambda ws: ws.on("framereceived", lambda data: _count(received, data)))
        page.open()
        page.run_all()
        page.page.get_by_text("60000 lines").wait_for(timeout=90_000)
        card = page.card("flood")
        card.get_by_text("MB shown; f.stdout has all").wait_for(timeout=60_000)
        before = card.locator("pre.nblb-out").inner_text()
        card.get_by_role("button", name="Show more output").click()
        wait_until(lambda: len(card.locator("pre.nblb-out").inner_text()) > 5 * len(before), 10)
        page.page.screenshot(path=artifacts / "flood.png")
        print(f"\n{received[0]:,} bytes over the websocket for 5.8 MB")
        assert received[0] < 2_000_000
        assert page.errors == []


def _count(received: list[int], data: Any) -> None:
    received[0] += len(data)
