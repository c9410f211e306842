"""The pages as viewers, users and administrators see them, in a browser that has opened a link; and hostile texts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nblb.access.monitor_token import MonitorRole, MonitorToken, signed
from nblb.protocol.messages import CancelTask
from tests.browser import chromium
from tests.monitoring.fake_source import FakeSource
from tests.monitoring.served import browser_page, served
from tests.waiting import wait_until

KEY = os.urandom(32)
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.browser,
    pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing()),
]
PAGES = (
    "now", "tasks", "jobs", "users", "hubs", "statistics", "timeline", "health", "room", "job&job=j1", "job&job=j2",
    "task&task=t000004", "task&task=t000002",
)  # fmt: skip
HOSTILE = (
    "<img src=x onerror=hacked()>",
    "<script>hacked()</script>",
    "\"'><svg onload=hacked()>",
    "</pre></textarea></title></style><script>hacked()</script>",
    "<iframe srcdoc='<script>parent.hacked()</script>'></iframe>",
    "javascript:hacked()",
    "{{ hacked() }}${hacked()}<%= hacked() %>",
    "<a href='javascript:hacked()' id=planted>x</a><img src=x onerror=hacked()>",
    "\u202e<img src=x onerror=hacked()>\x00\x1b[31m\u2028",
    "@{name}{custom} @name{safe} <b onmouseover=hacked()>",
)
#: The fields of the core's answers whose text somebody else has chosen.
TEXTS = {
    "name", "user", "host", "note", "job_name", "task_name", "origin", "why", "message", "where", "kind", "call",
    "line", "stdout", "stderr", "traceback", "error", "arguments", "worker", "python_name", "version", "state_dir",
}  # fmt: skip


ENABLE = """label => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.label === label).forEach(m => { m.disabled = false })"""


@pytest.fixture(scope="module", autouse=True)
def _one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with chromium.shared(tmp_path_factory.mktemp("chromium")):
        yield


def link(url: str, name: str, role: MonitorRole, page: str = "") -> str:
    token = signed(KEY, MonitorToken("link", name, role, time.time() + 60, 3600.0))
    return f"{url}?token={token}{f'&page={page}' if page else ''}"


def test_a_viewer_sees_everything_and_changes_nothing() -> None:
    source = FakeSource()
    with served(source, key=lambda: KEY) as url, browser_page() as page:
        page.goto(link(url, "eve", "viewer", "task&task=t000000"))
        assert "token" not in page.url
        page.get_by_text("eve, viewer").wait_for()
        for name in ("Cancel …", "Kill …", "Set priority"):
            assert page.get_by_role("button", name=name).is_disabled()
        page.get_by_text("eve has the role viewer; this needs the role user").first.wait_for()
        page.goto(f"{url}?page=hubs")
        page.get_by_text("eve has the role viewer; this needs the role admin").first.wait_for()
        for name in ("Scale", "Drain", "Restart …", "Remove …"):
            assert page.get_by_role("button", name=name).is_disabled()
        # a browser that enables the button all the same gets a refusal from the server
        page.evaluate(ENABLE, "Drain")
        page.get_by_role("button", name="Drain").click()
        page.get_by_text("not done: eve has the role viewer").wait_for()
        assert source.orders == []


def test_a_user_changes_its_own_in_its_own_name() -> None:
    source = FakeSource()
    with served(source, key=lambda: KEY) as url, browser_page() as page:
        page.goto(link(url, "anna", "user", "task&task=t000000"))
        page.get_by_role("button", name="Cancel …").click()
        page.get_by_role("button", name="Yes, cancel", exact=True).click()
        page.get_by_text("cancelled sweep[0]").wait_for()
        assert (source.orders, source.named) == ([CancelTask(request=1, task="t000000")], [("anna", "user")])
        page.goto(f"{url}?page=job&job=j2")
        page.get_by_text("this belongs to bert, and anna has the role user").first.wait_for()
        assert page.get_by_role("button", name="Forget job …").is_disabled()
        page.goto(f"{url}?page=hubs")
        assert page.get_by_role("button", name="Scale").is_disabled()


def test_an_administrator_acts_in_its_own_name_too() -> None:
    source = FakeSource()
    with served(source, key=lambda: KEY) as url, browser_page() as page:
        page.goto(link(url, "carl", "admin", "hubs"))
        page.get_by_role("button", name="Drain").click()
        page.get_by_text("takes no new work").wait_for()
        assert source.named == [("carl", "admin")]


def test_a_login_that_ends_under_an_open_page_shows_no_more() -> None:
    source = FakeSource()
    with served(source, key=lambda: KEY) as url, browser_page() as page:
        token = signed(KEY, MonitorToken("link", "eve", "viewer", time.time() + 60, 15.0))  # a busy machine is slow
        page.goto(f"{url}?token={token}")
        page.get_by_text("97 % CPU").first.wait_for()
        page.get_by_text("the login of eve has ended").wait_for()
        page.get_by_text("97 % CPU").first.wait_for(state="hidden")


class HostileSource(FakeSource):
    """A cluster in which every text that somebody can choose is one of HOSTILE."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def ask(self, topic: str, about: dict[str, Any] | None = None) -> Any:
        return self._spoiled(super().ask(topic, about), topic in {"stats", "percentiles"})

    def _spoiled(self, value: Any, names: bool = False) -> Any:
        if isinstance(value, dict):
            return {
                (f"{self.text}{key}" if names else key): f"{self.text}{one}"
                if key in TEXTS and isinstance(one, str)
                else self._spoiled(one, key in ("by_user", "by_name", "used_s"))
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [self._spoiled(one) for one in value]
        return value


FOUND = """() => {
    const found = [];
    const walk = (root) => {
        for (const node of root.querySelectorAll("*")) {
            if (node.shadowRoot) walk(node.shadowRoot);
            for (const attribute of node.attributes)
                if (/^on|hacked/.test(attribute.name) ||
                    (/^(href|src|action|formaction|xlink:href)$/.test(attribute.name) &&
                     /^\\s*javascript:/i.test(attribute.value)))
                    found.push(node.outerHTML.slice(0, 200));
            if (node.matches("img[src=x], iframe[srcdoc], #planted")) found.push(node.outerHTML.slice(0, 200));
        }
    };
    walk(document);
    return [found, window.wasHacked === true];
}"""


@pytest.mark.parametrize("text", ["".join(HOSTILE), "javascript:hacked()//"], ids=["markup", "address"])
def test_no_text_of_others_runs_or_becomes_an_element(text: str) -> None:
    source = HostileSource(text)
    with served(source) as url, browser_page() as page:
        page.add_init_script("window.hacked = () => { window.wasHacked = true }")
        for name in PAGES:
            page.goto(f"{url}?page={name}")
            page.locator(".facts").wait_for()
            at = source.step
            wait_until(lambda at=at: source.step > at, 20, "a round of questions")  # type: ignore[misc]
            for chart in page.locator("canvas.bk-layer, .bk-Canvas").all()[:1]:
                chart.hover(force=True, timeout=2000) if chart.is_visible() else None
            assert page.evaluate(FOUND) == [[], False], name
