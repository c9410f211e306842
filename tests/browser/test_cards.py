"""The cards in a real page, showing objects whose state follows a clock instead of a cluster."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from tests.browser.lab import DARK, LIGHT, PRESSED_WHILE_COMPUTING_S, Lab, Page, browser_page, write_notebook

SETUP = (
    "from tests.notebook import fakes\nfrom nblb.notebook import display_hooks\n"
    "display_hooks.install(get_ipython())\nfakes.install()"
)
COMPUTE = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: sum(range(10_000))"

OVERFLOW = "() => Math.max(...[...document.querySelectorAll('.nblb-root')].map(e => e.scrollWidth - e.clientWidth))"
WATCH_LONG_TASKS = """() => {
    window.slow = [];
    const watch = new PerformanceObserver((list) => window.slow.push(...list.getEntries().map((e) => e.duration)));
    watch.observe({ type: 'longtask' });
}"""


def percent(card: Any) -> int:
    return int(card.get_by_role("progressbar").get_attribute("aria-valuenow"))


def wait_state(page: Page, word: str, timeout_s: float = 60) -> float:
    """Seconds until a card says this state."""
    begin = time.monotonic()
    page.page.locator(".nblb-state").filter(has_text=word).first.wait_for(timeout=timeout_s * 1000)
    return time.monotonic() - begin


def test_a_job_moves_while_the_kernel_computes_and_can_be_cancelled_then(here: Lab, artifacts: Path) -> None:
    write_notebook(
        here.root / "a.ipynb", SETUP + "\njob = fakes.FakeJob(total=4000, bad={3, 9})\njob", COMPUTE.format(12)
    )
    with browser_page(here, "a.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        card.get_by_role("progressbar").wait_for()
        page.page.wait_for_timeout(500)
        text = card.get_by_role("progressbar").get_attribute("aria-valuetext")
        assert re.fullmatch(r"[\d,]+ of 4,000 tasks, \d failed", text)
        page.page.wait_for_function("() => +document.querySelector('[role=progressbar]').ariaValueNow >= 3")
        card.get_by_role("slider", name="every item").wait_for()
        card.get_by_role("button", name="Cancel").click()
        assert wait_state(page, "cancelled") < PRESSED_WHILE_COMPUTING_S
        assert percent(card) == 100
        assert card.get_by_role("button", name="Cancel").is_disabled()
        card.get_by_text("2 × ValueError").click()
        card.get_by_text("in simulate").wait_for()
        page.page.screenshot(path=artifacts / "job-cancelled.png")
        assert page.errors == []
        assert page.foreign == []


def test_reload_brings_the_card_back_to_life_and_the_kernels_end_leaves_the_picture(here: Lab, artifacts: Path) -> None:
    write_notebook(here.root / "b.ipynb", SETUP + "\njob = fakes.FakeJob(total=8000, bad={3})\njob")
    with browser_page(here, "b.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        card.get_by_role("progressbar").wait_for()
        page.save()
        page.reload()
        card.get_by_role("progressbar").wait_for()
        before = percent(card)
        page.page.wait_for_function(f"() => +document.querySelector('[role=progressbar]').ariaValueNow > {before}")
        card.get_by_role("button", name="Cancel").click()
        wait_state(page, "cancelled")
        card.get_by_role("button", name="Retry failed").click()
        wait_state(page, "running")
        card.get_by_role("button", name="Cancel").click()
        wait_state(page, "cancelled")
        saved = page.save()
        assert all("view+json" not in kind for data in _outputs(saved) for kind in data)
        page.kill_kernel()
        page.reload()
        page.page.get_by_text("of 8,000 tasks").wait_for()
        assert "model not found" not in " ".join(page.outputs())
        page.page.screenshot(path=artifacts / "kernel-dead.png")


def _outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [output["data"] for cell in notebook["cells"] for output in cell["outputs"] if "data" in output]


def test_the_saved_notebook_holds_the_end_also_when_a_card_was_redrawn_under_the_reader(here: Lab) -> None:
    show = SETUP + "\njob = fakes.FakeJob(total=200, bad={1})\njob"
    redraw = (
        "from nblb.notebook import display_hooks\ncard = display_hooks._cards[job]\n"
        "for place in card._places: place.update(card.bundle())"
    )
    write_notebook(here.root / "c.ipynb", show, COMPUTE.format(2), redraw, "job")
    with browser_page(here, "c.ipynb") as page:
        page.open()
        page.run_all()
        first = page.card("sweep").first
        first.get_by_text("✗ ValueError").click()
        page.page.locator(".nblb-root").nth(1).wait_for()
        first.get_by_text("in simulate").wait_for()
        assert page.page.evaluate("() => document.activeElement.tagName") == "SUMMARY"
        wait_state(page, "failed")
        page.page.wait_for_timeout(500)
        saved = _outputs(page.save())
        assert all("200 of 200 tasks, 1 failed" in "".join(data["text/plain"]) for data in saved)
        assert len(json.dumps(saved)) < 20_000


def test_looks(here: Lab, artifacts: Path) -> None:
    """One page in three looks: no card is wider than it may be in any of them."""
    cells = (
        SETUP + "\njob = fakes.FakeJob(total=10_000, seconds=0.5, workers=200, bad=set(range(3, 3000, 97)))\njob",
        "cluster = fakes.FakeCluster()\ncluster",
        "task = thing = fakes.FakeTask(seconds=30)" + SPEAK,
        "import threading\nthreading.Timer(0.5, print, ('it', 'waits')).start()\nfakes.FakeJob(seconds=60).wait()",
    )
    write_notebook(here.root / "looks.ipynb", *cells)
    with browser_page(here, "looks.ipynb", size=(600, 1300)) as page:
        page.open()
        page.run_all()
        page.card("simulate").wait_for()
        page.page.get_by_text("ValueError").first.click()
        page.page.get_by_text("it waits", exact=True).wait_for()  # an interrupt between two cells would be lost
        page.command("notebook:interrupt-kernel")
        page.card("stopped waiting for sweep").wait_for()
        for theme, width in ((LIGHT, 600), (DARK, 1280), (LIGHT, 320)):
            page.look(theme, width)
            page.page.wait_for_timeout(1000)  # the card is drawn anew, also by what comes from the kernel
            page.page.screenshot(path=artifacts / f"looks-{theme.rsplit(maxsplit=1)[-1].lower()}-{width}.png")
            assert page.page.evaluate(OVERFLOW) <= 1, (theme, width)
            for name in ("Scale", "Open monitor", "Stop"):
                assert page.card("lab-5799").get_by_role("button", name=name, exact=True).is_enabled()


SPEAK = """
from nblb.client.futures.live import MimeBundle
from nblb.client.snapshots import OutputLine
dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
thing.has_knobs(); thing.emits({"image/png": dot, "text/plain": "<Figure loss>"})
thing.displays = [MimeBundle({"text/html": "<b>bold</b><script>parent.evil = 1</script>", "text/plain": "bold"})]
thing.output = [OutputLine(n, "stdout", f"epoch {n}") for n in range(8)]
thing"""


def test_a_task_is_steered_from_its_card(here: Lab) -> None:
    write_notebook(here.root / "h.ipynb", SETUP + "\nthing = fakes.FakeTask(seconds=300)" + SPEAK)
    with browser_page(here, "h.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("simulate")
        knob = card.get_by_role("slider", name="lr")
        knob.focus()
        knob.press("ArrowRight")
        card.get_by_text("lr is to be 0.11").wait_for()
        assert card.locator("output").first.inner_text() == "0.11"
        card.get_by_role("checkbox", name="noise").uncheck()
        card.get_by_text("noise is to be False").wait_for()
        card.get_by_role("textbox", name="title").fill("another")
        card.get_by_role("textbox", name="title").press("Enter")
        card.get_by_text("title is to be another").wait_for()
        card.get_by_role("img", name="<Figure loss>").wait_for()
        page.page.frame_locator("iframe[sandbox]").get_by_text("bold").wait_for()
        assert page.page.evaluate("() => window.evil") is None
        card.get_by_role("button", name="Stop early and keep").press("Enter")
        card.get_by_text("keeps what it emitted last").wait_for()
        assert page.errors == []


def test_every_item_is_reached_by_keyboard_mouse_and_in_words(here: Lab, artifacts: Path) -> None:
    job = "\nthing = fakes.FakeJob(total=300, seconds=0.01, bad={40, 200}, age=60)"
    write_notebook(here.root / "i.ipynb", SETUP + job + SPEAK)
    with browser_page(here, "i.ipynb", size=(900, 1000)) as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        strip = card.get_by_role("slider", name="every item")
        strip.focus()
        for key, said in (("f", "item 40: ✗ failed"), ("ArrowLeft", "item 39: ✓ done"), ("End", "item 299: ✓ done")):
            strip.press(key)
            assert strip.get_attribute("aria-valuetext") == said
        strip.press("f")  # round to the first again
        strip.press("Enter")
        item = card.get_by_role("region", name="opened item")
        item.get_by_text("item 40: ✗ failed").wait_for()
        item.get_by_text("ValueError: x must be >= 0").wait_for()
        strip.click(position={"x": 3, "y": 3})
        item.get_by_text("item 0: ✓ done").wait_for()
        item.get_by_role("button", name="Close").click()
        item.wait_for(state="hidden")
        card.get_by_text("items in words").click()
        card.get_by_role("listitem").filter(has_text="201 to 299").wait_for()
        words = card.get_by_role("listitem").filter(has_text="to").all_inner_texts()
        assert words == ["0 to 39: ✓ done", "41 to 199: ✓ done", "201 to 299: ✓ done"]
        page.page.screenshot(path=artifacts / "items.png")
        assert page.errors == []


CORNERS = """(canvas) => [0, 1].map((cell) => {
    const pixel = (x, y) => canvas.getContext('2d').getImageData(cell * 12 + x, y, 1, 1).data.join();
    return pixel(8, 3) === pixel(3, 8);
})"""


def test_new_code_is_offered_for_what_failed_and_what_was_stopped_early_has_its_own_square(
    here: Lab, artifacts: Path
) -> None:
    job = "\nthing = fakes.FakeJob(total=40, seconds=0.01, bad={5, 6}, age=60)\nthing.kept = {0, 3}"
    mend = (
        "import pathlib, time\nimport nblb as lb\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\n"
        "@lb.task\ndef simulate(x): return x"
    )
    write_notebook(here.root / "k.ipynb", SETUP + job + SPEAK, mend)
    with browser_page(here, "k.ipynb", size=(900, 700)) as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        retry = card.get_by_role("button", name="Retry failed", exact=True)
        renew = card.get_by_role("button", name="Retry failed with the new code")
        retry.wait_for()
        card.locator('li[data-state="KEPT"]').get_by_text("◑ 2 stopped early").wait_for()
        strip = card.get_by_role("slider", name="every item")
        strip.focus()
        strip.press("Home")
        assert strip.get_attribute("aria-valuetext") == "item 0: ◑ stopped early"
        strip.press("ArrowRight")
        assert strip.get_attribute("aria-valuetext") == "item 1: ✓ done"
        assert strip.evaluate(CORNERS) == [False, True], "a kept square lacks a corner, a done one does not"
        assert not renew.is_visible(), "the code is the same"
        (here.root / "go").touch()
        renew.wait_for()
        page.page.screenshot(path=artifacts / "new-code.png")
        renew.click()
        card.get_by_text("running the failed tasks again, with the new code").wait_for()
        renew.wait_for(state="hidden")
        assert page.errors == []


def test_the_page_is_told_little_and_stays_quick(here: Lab) -> None:
    show = SETUP + "\njob = fakes.FakeJob(total=10_000, seconds=0.05, workers=50)\njob"
    write_notebook(here.root / "d.ipynb", show, COMPUTE.format(6))
    with browser_page(here, "d.ipynb") as page:
        received: list[int] = []
        page.page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
        page.page.emulate_media(reduced_motion="no-preference")  # with all that moves
        page.open()
        page.page.evaluate(WATCH_LONG_TASKS)
        page.run_all()
        page.card("sweep").get_by_role("progressbar").wait_for()
        page.page.wait_for_timeout(1000)
        received.clear()
        page.page.evaluate("() => { window.slow.length = 0 }")
        before, seen = time.monotonic(), set()
        while time.monotonic() < before + 4:  # the main thread of the kernel computes meanwhile
            seen.add(percent(page.card("sweep")))
            page.page.wait_for_timeout(100)
        slow = page.page.evaluate("() => window.slow")
        print(
            f"10,000 tasks, kernel busy: {len(received) / 4:.1f} frames/s, {sum(received) / 4000:.1f} kB/s, "
            f"{len(slow)} long tasks in the page, {max(slow, default=0):.0f} ms at most, "
            f"bar {min(seen)} to {max(seen)} %"
        )
        assert len(seen) >= 2
        assert len(received) <= 4 * 10
        assert sum(received) <= 4 * 40_000
        assert max(slow, default=0) < 500


def test_stop_asks_first_when_work_would_wait_and_scale_sends_the_number(here: Lab) -> None:
    write_notebook(here.root / "e.ipynb", SETUP + "\ncluster = fakes.FakeCluster()\ncluster")
    with browser_page(here, "e.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("lab-5799")
        card.get_by_role("spinbutton", name="number of workers").fill("6")
        card.get_by_role("button", name="Scale").click()
        card.get_by_text("scaling to 6 workers").wait_for()
        card.get_by_role("button", name="Stop", exact=True).click()
        card.get_by_role("button", name="Keep it").click()
        card.get_by_text("● up").wait_for()
        card.get_by_role("button", name="Stop", exact=True).click()
        card.get_by_role("button", name="Stop now").click()
        card.get_by_text("■ stopped").wait_for()
        assert card.get_by_role("button", name="Scale").is_disabled()


def test_where_outputs_are_apart_the_widget_has_a_view_of_its_own(here: Lab) -> None:
    write_notebook(here.root / "f.ipynb", SETUP + "\n__vsc_ipynb_file__ = ''\njob = fakes.FakeJob(total=400)\njob")
    with browser_page(here, "f.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        card.get_by_role("progressbar").wait_for()
        assert page.page.locator(".jp-RenderedHTML .nblb-root").count() == 0
        card.get_by_role("button", name="Cancel").click()
        page.page.locator("progress").wait_for()  # the view has given way to the picture
        assert "model not found" not in " ".join(page.outputs())


def test_a_silent_kernel_is_said(here: Lab) -> None:
    drawn = here.root / "g.drawn"  # a kernel that stops at once has not sent what its cells show
    stop = (
        f"import os, signal, time\nwhile not os.path.exists({str(drawn)!r}): time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGSTOP)"
    )
    write_notebook(here.root / "g.ipynb", SETUP + "\njob = fakes.FakeJob(total=40_000)\njob", stop)
    with browser_page(here, "g.ipynb") as page:
        page.open()
        page.run_all()
        page.card("sweep").get_by_role("progressbar").wait_for()
        drawn.touch()
        page.page.get_by_text("no word from the kernel").wait_for(timeout=60_000)
        assert page.card("sweep").get_by_role("button", name="Cancel").is_disabled()
