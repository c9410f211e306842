"""Accessibility of the cards in a real page: without sight, without colours, without a mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.gallery import open_gallery, write_gallery
from tests.browser.lab import DARK, LIGHT, Lab, Page, browser_page, write_notebook
from tests.browser.test_cards import SETUP, wait_state
from tests.notebook.scenes import SCENES

# All rules that axe has for WCAG 2.2 and its advice on practice, on our cards only: Lab's own page is not ours.
AXE = """() => axe.run({ include: ['.nblb-card'] }, { rules: { 'target-size': { enabled: true } } }).then((found) => (
    { wrong: [...found.violations, ...found.incomplete], passes: found.passes.map((rule) => rule.id) }))"""
OPEN_ALL = "() => document.querySelectorAll('.nblb-card details').forEach((node) => { node.open = true; })"
# Lab's body has no height and hides what is beyond, so that axe takes text without a ground of its own for unseen.
IN_VIEW = "body { height: 100vh } .jp-cell-toolbar { display: none }"
CHECKED = {"color-contrast", "aria-progressbar-name", "button-name", "label", "aria-required-attr", "target-size"}


# Whether the cells of an item in the strip are of one colour each.
PLAIN = """([name, item]) => {
    const strip = document.querySelector(`[aria-label="${name}"] canvas`);
    const size = Math.min(12, Math.floor(Math.sqrt((strip.width * 60) / 200))); // as strip.js has it, for 200 items
    const columns = Math.floor(strip.width / size), x = (item % columns) * size, y = Math.floor(item / columns) * size;
    const { data } = strip.getContext("2d").getImageData(x, y, size - 1, size - 1);
    return new Set(new Uint32Array(data.buffer)).size === 1;
}"""


def found(page: Page, checked: set[str]) -> list[str]:
    """What axe finds, or cannot decide, in words; every rule that matters here has been tried."""
    axe = pytest.importorskip("axe_playwright_python.base")
    page.page.evaluate(axe.AXE_SCRIPT)
    result = page.page.evaluate(AXE)
    print(f"\naxe: {len(result['passes'])} rules passed")
    wrong = [
        f"{rule['id']}: {rule['help']}: {node['html'][:200]}" for rule in result["wrong"] for node in rule["nodes"]
    ]
    assert set(result["passes"]) >= checked, wrong
    return wrong


MARKED = [("done", 3, True), ("running", 90, False), ("failed", 3, False), ("cancelled", 99, False)]
LOOKS = [(LIGHT, 1280), (DARK, 600)]


def test_axe_finds_nothing_on_any_card_in_any_state(here: Lab) -> None:
    write_gallery(here, list(SCENES))
    with browser_page(here, "gallery.ipynb") as page:
        open_gallery(page, list(SCENES), LIGHT)
        for look in LOOKS:
            page.look(*look)
            page.page.evaluate(OPEN_ALL)
            page.page.wait_for_timeout(500)
            assert found(page, CHECKED) == [], look
            without_colours(page)
        assert page.errors == []
        page.save()
        page.kill_kernel()
        page.reload()  # the pictures that a saved notebook keeps
        page.page.locator(".nblb-card progress").first.wait_for()
        page.page.evaluate(OPEN_ALL)
        assert page.page.locator(".nblb-root").count() == 0
        page.page.add_style_tag(content=IN_VIEW)
        for theme, width in LOOKS:
            page.look(theme)
            page.page.set_viewport_size(
                {"width": width, "height": 14_000}
            )  # what is half scrolled away is not measured
            page.page.wait_for_function("() => document.querySelector('.jp-NotebookPanel').clientHeight > 13_000")
            assert found(page, {"summary-name", "color-contrast"}) == [], (theme, width)


def without_colours(page: Page) -> None:
    """Who sees no colours sees marks, and each bar has words."""
    bars = page.page.locator(".nblb-card [role=progressbar]:visible").all()
    assert len(bars) >= 20
    for bar in bars:
        assert bar.get_attribute("aria-label")
        assert bar.get_attribute("aria-valuetext")
    for name, item, plain in MARKED:
        assert page.page.evaluate(PLAIN, [name, item]) is plain, name


FOCUS = """() => {
    const node = document.activeElement, style = getComputedStyle(node), card = node.closest('.nblb-root');
    const light = (colour) => {
        const [r, g, b] = colour.match(/[0-9.]+/g).map((part) => part / 255)
            .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    if (!card) return null;
    const ring = light(style.outlineColor) + 0.05, ground = light(getComputedStyle(card).backgroundColor) + 0.05;
    return { name: node.getAttribute('aria-label') || node.textContent, tag: node.tagName,
        ring: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
        contrast: Math.max(ring, ground) / Math.min(ring, ground) };
}"""


def tab(page: Page) -> Any:
    """Presses Tab; what has the focus then, or None outside a card."""
    page.page.keyboard.press("Tab")
    return page.page.evaluate(FOCUS)


def walk(page: Page, artifacts: Path, theme: str) -> list[Any]:
    """What Tab reaches on the card, from the cell above it on."""
    card = page.card("sweep")
    page.page.locator(".jp-CodeCell .cm-content").first.click()
    page.page.keyboard.press("Escape")  # Lab's command mode: from here no mouse is used
    at = next((at for _ in range(20) if (at := tab(page)) is not None), None)
    stops = []
    while at is not None:
        stops.append(at)
        if at["tag"] == "CANVAS":
            page.page.keyboard.press("Home")
            page.page.keyboard.press("f")
            card.get_by_role("slider", name="every item").and_(page.page.locator("[aria-valuenow='40']")).wait_for()
            page.page.screenshot(path=artifacts / f"focus-{theme.rsplit(maxsplit=1)[-1].lower()}.png")
        at = tab(page)
    return stops


def test_a_keyboard_reaches_everything_in_order_and_sees_where_it_is(here: Lab, artifacts: Path) -> None:
    job = "\njob = fakes.FakeJob(total=10_000, seconds=2, workers=100, bad={40, 200}, age=10)\njob"
    write_notebook(here.root / "keys.ipynb", SETUP + job)
    with browser_page(here, "keys.ipynb") as page:
        page.open()
        page.run_all()
        card = page.card("sweep")
        card.get_by_text("2 × ValueError").wait_for()
        for theme in (DARK, LIGHT):
            page.look(theme)
            stops = walk(page, artifacts, theme)
            assert [stop["name"].partition(":")[0] for stop in stops] == [
                "Notify me",
                "Cancel",
                "Retry failed",
                "every item",
                "items in words",
                "✗ 2 × ValueError at cell In[3] line 4",
            ]
            assert all(stop["ring"] >= 2 and stop["contrast"] >= 3 for stop in stops), (theme, stops)

        card.get_by_role("slider", name="every item").focus()
        for key, said in (("End", "9999"), ("Home", "0"), ("ArrowRight", "1"), ("f", "40"), ("f", "200"), ("f", "40")):
            page.page.keyboard.press(key)
            assert card.get_by_role("slider", name="every item").get_attribute("aria-valuenow") == said
        page.page.keyboard.press("Enter")
        item = card.get_by_role("region", name="opened item")
        item.get_by_text("item 40: ✗ failed").wait_for()
        assert [tab(page)["name"] for _ in range(3)] == ["Retry this item", "Copy the debug call", "Close"]
        page.page.keyboard.press("Enter")
        item.wait_for(state="hidden")
        assert page.page.evaluate(FOCUS)["name"].startswith("every item")  # where it came from
        for _ in range(2):
            page.page.keyboard.press("Shift+Tab")
        page.page.keyboard.press("Enter")
        wait_state(page, "cancelled")
        assert page.page.evaluate(FOCUS)["name"] == "Cancel"  # it is disabled now, and the focus is not lost
        assert card.get_by_role("button", name="Cancel").is_disabled()
        assert page.errors == []


WATCH_SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const { value, sources } of list.getEntries()) for (const { node } of sources) {
            const element = node?.nodeType === 1 ? node : node?.parentElement;
            // The bar's own parts move, as they should.
            if (element?.closest('.nblb-card') && !element.closest('.nblb-bar'))
                window.shifts.push([value, element.outerHTML.slice(0, 90)]);
        }
    }).observe({ type: 'layout-shift', buffered: false });
}"""
HEIGHT = "() => document.querySelector('.nblb-root').clientHeight"
STEP = """
import threading
def go():
    for done in range(2, 398):
        job.each = job.each[:]; job.each[done - 2] = "FAILED" if done in (50, 51, 200) else "DONE"
        job.each[min(done + 6, 399)] = "RUNNING"
        time.sleep(0.01)
threading.Thread(target=go, daemon=True).start()"""


def test_nothing_jumps_while_a_job_goes_on(here: Lab) -> None:
    job = "from tests.notebook import scenes\nimport time\njob = scenes.StillJob(total=400, running=8)\n"
    show = (
        "from nblb.notebook import display_hooks\ndisplay_hooks.install(get_ipython())\ndisplay_hooks.show('job', job)"
    )
    write_notebook(here.root / "still.ipynb", job + show, STEP)
    with browser_page(here, "still.ipynb") as page:
        page.open()
        for width in (1280, 500):
            page.look(LIGHT, width)
            nothing_jumps(page, width)


def nothing_jumps(page: Page, width: int) -> None:
    """The job is shown anew, and goes on."""
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
    page.command("notebook:run-cell")
    card = page.card("sweep")
    card.get_by_text("8 running").wait_for()
    card.get_by_role("slider", name="every item").wait_for()
    page.page.wait_for_timeout(1500)  # the saved picture has been redrawn meanwhile
    before = page.page.evaluate(HEIGHT)
    page.page.evaluate(WATCH_SHIFTS)
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1")
    page.command("notebook:run-cell")
    card.get_by_text("✗ 3 failed").wait_for()
    card.get_by_text("3 × ValueError").wait_for()
    card.get_by_text("390 done").or_(card.get_by_text("393 done")).first.wait_for()
    shifts = page.page.evaluate("() => window.shifts")
    print(f"\n{width}: {len(shifts)} shifts, {sum(s[0] for s in shifts):.4f} in all; {shifts[:6]}")
    assert sum(shift[0] for shift in shifts) < 0.001, width  # of the page's height and width; below 0.1 is called good
    assert page.page.evaluate(HEIGHT) - before < 60  # the failures' own lines, below all that was there
