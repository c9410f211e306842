"""The load that large jobs, and many jobs, put on the page and its connection while the kernel computes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.browser.lab import Lab, Page, browser_page, write_notebook
from tests.browser.test_cards import COMPUTE, SETUP, WATCH_LONG_TASKS
from tests.browser.test_notebook import LOAD, START
from tests.waiting import wait_until

UPDATES_PER_S = 10  # of one card, at most
# Of all cards together: the sampler's messages (25 a second at most), and now and then a picture for the saved file.
FRAMES_PER_S = 2 * 25
CARD_BYTES = 4_000  # a description with eight running rows; a strip of 10,000 items is sent once a second at most
MESSAGES_PER_S = 25  # of all cards together, as nblb/notebook/cards/refresh.py says
STRIP_BYTES = 6_000  # of 1,000 items, with each message
WATCHED_S = 3.0


class Frames:
    """What arrives at the page over its websockets."""

    def __init__(self, page: Page) -> None:
        self.sizes: list[int] = []
        page.page.on("websocket", lambda socket: socket.on("framereceived", self._one))

    def _one(self, data: Any) -> None:
        self.sizes.append(len(data))

    def during(self, page: Page, seconds: float) -> tuple[float, float]:
        """Frames and bytes a second from now on, measured with the machine's own clock."""
        self.sizes.clear()
        page.page.evaluate("() => { window.slow.length = 0 }")
        begin = time.monotonic()
        page.page.wait_for_timeout(1000 * seconds)
        took_s, sizes = time.monotonic() - begin, list(self.sizes)
        return len(sizes) / took_s, sum(sizes) / took_s


COUNT_UPDATES = """(name) => {
    window.updates = 0;
    const card = [...document.querySelectorAll('.nblb-root')].find((one) => one.getAttribute('aria-label') === name);
    const all = { subtree: true, childList: true, attributes: true, characterData: true };
    new MutationObserver(() => { window.updates += 1; }).observe(card, all);
}"""
MAP = """import nblb as lb, time
@lb.task
def nap(x):
    time.sleep(0.002)
    return x
"""


def test_ten_thousand_tasks_of_one_job_on_a_real_cluster(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    show = MAP + "job = nap.map(range(10_000), job='many')\njob"
    end = "print('computed'); job.wait(); print(len(job.results()), 'results')"
    write_notebook(here.root / "many.ipynb", LOAD + START, show, COMPUTE.format(8), end)
    with browser_page(here, "many.ipynb") as page:
        frames = Frames(page)
        page.open()
        page.page.evaluate(WATCH_LONG_TASKS)
        page.run_all()
        card = page.card("many")
        card.get_by_role("slider", name="every item").wait_for(timeout=60_000)
        page.page.evaluate(COUNT_UPDATES, "many")
        per_s, bytes_per_s = frames.during(page, WATCHED_S)
        updates, slow = page.page.evaluate("() => [window.updates, window.slow]")
        busy = page.page.get_by_text("computed", exact=True).count() == 0
        page.page.screenshot(path=artifacts / "many.png")
        print(
            f"\n10,000 tasks, kernel {'computes' if busy else 'idle'}: {per_s:.1f} frames/s, "
            f"{bytes_per_s / 1000:.1f} kB/s, {updates / WATCHED_S:.1f} updates/s, {len(slow)} long tasks, "
            f"{max(slow, default=0):.0f} ms at most"
        )
        assert updates >= 3  # it lives while the main thread computes
        assert updates <= UPDATES_PER_S * WATCHED_S * 1.5
        assert per_s <= FRAMES_PER_S
        assert bytes_per_s <= UPDATES_PER_S * CARD_BYTES + 12_000
        page.page.get_by_text("10000 results").wait_for(timeout=90_000)
        wait_until(
            lambda: "10,000 of 10,000" in str(card.get_by_role("progressbar").get_attribute("aria-valuetext")), 20
        )
        assert page.errors == []


TEN = 10
COUNT_EACH = """() => {
    window.updates = {};
    window.since = performance.now();
    const all = { subtree: true, childList: true, attributes: true, characterData: true };
    for (const card of document.querySelectorAll('.nblb-root')) {
        const name = card.getAttribute('aria-label');
        window.updates[name] = 0;
        new MutationObserver(() => { window.updates[name] += 1; }).observe(card, all);
    }
}"""


def test_ten_jobs_of_a_thousand_tasks_share_what_one_may_send(here: Lab, artifacts: Path) -> None:
    jobs = f"\njobs = [fakes.FakeJob(name=f'j{{n}}', total=1000, seconds=0.2, workers=8) for n in range({TEN})]"
    shows = [f"jobs[{n}]" for n in range(TEN)]
    write_notebook(here.root / "ten.ipynb", SETUP + jobs, *shows, COMPUTE.format(14))
    with browser_page(here, "ten.ipynb") as page:
        frames = Frames(page)
        page.open()
        page.page.evaluate(WATCH_LONG_TASKS)
        page.run_all()
        page.page.wait_for_function(
            f"() => document.querySelectorAll('.nblb-root [role=slider]').length === {TEN}", timeout=60_000
        )
        page.page.evaluate(COUNT_EACH)
        # Twice, for what a page that lags reads late is not of this time.
        per_s, bytes_per_s = min(frames.during(page, WATCHED_S) for _ in range(2))
        updates, slow, watched_s = page.page.evaluate(
            "() => [Object.values(window.updates), window.slow, (performance.now() - window.since) / 1000]"
        )
        page.page.screenshot(path=artifacts / "ten.png")
        print(
            f"\nten jobs of 1,000: {per_s:.1f} frames/s, {bytes_per_s / 1000:.1f} kB/s, {min(updates)} to "
            f"{max(updates)} updates of a card in {watched_s:.1f} s, {max(slow, default=0):.0f} ms at most"
        )
        assert per_s <= FRAMES_PER_S
        assert bytes_per_s <= MESSAGES_PER_S * CARD_BYTES + TEN * STRIP_BYTES
        assert max(updates) <= UPDATES_PER_S * watched_s
        page.page.wait_for_function("() => Object.values(window.updates).every((count) => count >= 2)")  # none starves
        assert page.errors == []
