"""A Monitor's server in a thread of a test's process, and pages of a browser that keep what they complain of."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from nblb.monitoring import server as monitor
from nblb.parameters import load
from tests.browser import chromium
from tests.monitoring.fake_source import FakeSource


@contextlib.contextmanager
def served(source: FakeSource | None, parameters: Any = None, **options: Any) -> Iterator[str]:
    """A Monitor that answers, in a thread of this process; its address."""
    ready, found = threading.Event(), {}

    def run() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        server, poller, url = monitor.open_server(
            load(parameters), port=0, connect=source.connect if source else None, **options
        )
        found.update(server=server, poller=poller, url=url)
        server.start()
        server.io_loop.add_callback(ready.set)
        server.io_loop.start()
        server.stop()
        server.io_loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(20)
        yield found["url"]
    finally:
        if found:
            found["server"].io_loop.add_callback(found["server"].io_loop.stop)
            found["poller"].stop()
        thread.join(20)
        assert not thread.is_alive()


@contextlib.contextmanager
def browser_page(width: int = 1280, height: int = 800, dark: bool = False) -> Iterator[Any]:
    """A page that keeps what it complained of in `complaints`, and what it asked of other computers."""
    with chromium.page((width, height), dark=dark) as page:
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda r: None if _is_local(r.url) else page.complaints.append(f"asked for {r.url}"))
        yield page


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
