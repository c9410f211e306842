"""All output of tasks, including that of unchanged code and C libraries, appears on the card of the submitting cell."""

from __future__ import annotations

from typing import Any

from tests.browser.lab import Lab, browser_page, write_notebook

START = "%load_ext nblb\n%lb_start parameters.json --no-monitor"
TALK = """import nblb as lb
@lb.task
def talk():
    import ctypes, logging, os, sys
    from IPython.display import HTML, display
    from matplotlib import pyplot as plt
    from rich.progress import track
    from tqdm.notebook import tqdm
    libc = ctypes.CDLL(None)
    libc.puts(b"libc speaks")
    libc.fflush(None)
    os.system("echo a shell speaks; echo a shell complains 1>&2")
    logging.getLogger("mine").warning("a logger warns")
    for _ in tqdm(range(3), desc="epochs"):
        for _ in tqdm(range(3), desc="batches", leave=False):
            pass
    for _ in track(range(3), description="tracked"):
        pass
    plt.plot([1, 2, 3])
    plt.show()
    display(HTML("<b>rich html</b>"))
f = talk.submit()
f"""
SPOKEN = ("libc speaks", "a shell speaks", "a shell complains", "WARNING:mine:a logger warns")


def test_c_shells_loggers_bars_and_figures_on_the_card_of_their_cell(here: Lab, stage: dict[str, Any]) -> None:
    write_notebook(here.root / "spoken.ipynb", START, TALK, "f.result(); print('it is over')")
    with browser_page(here, "spoken.ipynb") as page:
        page.open()
        page.run_all()
        page.page.get_by_text("it is over", exact=True).wait_for(timeout=90_000)
        cell = page.page.locator(".jp-CodeCell").nth(1)
        for words in SPOKEN:
            cell.locator("pre.nblb-out").filter(has_text=words).wait_for(timeout=60_000)
        cell.locator(".jp-OutputArea-output").get_by_text("tracked").first.wait_for()  # the latest bar's name
        cell.locator(".nblb-pictures img").first.wait_for()
        assert "%|" not in cell.locator("pre.nblb-out").inner_text()  # bars are no lines of output
        after = page.page.locator(".jp-CodeCell").nth(2).locator(".jp-OutputArea-output").inner_text()
        assert after.strip() == "it is over"
        assert page.errors == []
