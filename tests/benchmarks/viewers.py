"""What viewers of the Monitor cost: `python -m tests.benchmarks.viewers [--short]`.

It starts a cluster with a Monitor, lets many tasks end, and then measures, with and without viewers by turns:

- the core's throughput: small tasks a second, and the core's own processor time for each. With more viewers than cores
  the Monitor's process takes time from all others, so only the second figure is the core's;
- how often each viewer's page is updated (1 Hz is the goal);
- how long the server needs for a page, to its first update, alone (the browser needs about half a second more);
- the Monitor's memory over opened and closed pages: what the second half of them adds (a leak), after the first.

A viewer is a WebSocket to a page, as a browser opens it, without the browser.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

import nblb as lb
from tests.waiting import wait_until

PAGES = ("now", "tasks", "jobs", "users", "hubs", "statistics", "timeline", "health", "room")
READY = {
    "kind": "MessageSent",
    "msg_type": "bokeh_event",
    "msg_data": {"type": "event", "name": "document_ready", "values": {"type": "map", "entries": []}},
}
TOKEN = re.compile(r'"token":"([^"]+)"')
CLOSED_S = 20.0  # the server drops the session of a closed page in this time


class Viewer:
    """One open page."""

    def __init__(self, url: str, page: str) -> None:
        self.url, self.page = url, page
        self.updates: list[float] = []

    async def open(self) -> WebSocketClientConnection:
        """Get the page, and open its WebSocket."""
        answer = await AsyncHTTPClient().fetch(f"{self.url}?page={self.page}", request_timeout=60)
        found = TOKEN.search(answer.body.decode())
        assert found is not None, answer.body[:500]
        place = urlsplit(self.url)
        headers = {"Origin": f"http://{place.netloc}"}
        line = await websocket_connect(
            HTTPRequest(f"ws://{place.netloc}/ws", headers=headers), subprotocols=["bokeh", found[1]]
        )
        await self._until(line, "ACK")
        header = {"msgid": "1", "msgtype": "PATCH-DOC"}
        for part in (header, {}, {"events": [READY]}):
            await line.write_message(json.dumps(part))
        return line

    async def watch(self, seconds: float) -> None:
        """Look at it for so long, and note when it was changed."""
        line = await self.open()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                kind = await asyncio.wait_for(self._next(line), left)
            except asyncio.TimeoutError:  # another class in Python 3.10
                break
            if kind == "PATCH-DOC":
                self.updates.append(time.monotonic())
        line.close()

    async def _until(self, line: WebSocketClientConnection, wanted: str) -> None:
        while await self._next(line) != wanted:
            pass

    async def _next(self, line: WebSocketClientConnection) -> str:
        """Return the type of the next message, whose parts follow each other."""
        header = json.loads(await self._part(line))
        for _ in range(2 + 2 * int(header.get("num_buffers", 0))):
            await self._part(line)
        return str(header["msgtype"])

    async def _part(self, line: WebSocketClientConnection) -> str | bytes:
        part = await line.read_message()
        if part is None:
            raise ConnectionError(f"the Monitor has closed the page {self.page}")
        return part


@contextmanager
def watched(url: str, number: int, seconds: float) -> Iterator[list[Viewer]]:
    """So many open pages, in a thread of their own."""
    viewers = [Viewer(url, PAGES[at % len(PAGES)]) for at in range(number)]
    troubles: list[BaseException] = []

    async def look() -> None:
        found = await asyncio.gather(*(viewer.watch(seconds) for viewer in viewers), return_exceptions=True)
        troubles.extend(one for one in found if one is not None)

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    try:
        wait_until(lambda: all(viewer.updates for viewer in viewers) or troubles, 120, "the viewers' pages")
        yield viewers
    finally:
        thread.join()
        assert not troubles, troubles


def load(url: str) -> list[float]:
    """Return the seconds from the request of each page to its first update, one page after the other."""
    found = []
    for page in PAGES:
        begun, viewer = time.monotonic(), Viewer(url, page)
        asyncio.run(viewer.watch(3.0))
        found += [at - begun for at in viewer.updates[:1]]
    return found


def rate(task: Any, core: psutil.Process, seconds: float) -> tuple[float, float]:
    """Return small tasks a second, and the core's processor time for each, in µs."""
    until, begun, number = time.monotonic() + seconds, time.monotonic(), 0
    before = sum(core.cpu_times()[:2])
    while time.monotonic() < until:
        lb.wait([task.submit(x) for x in range(2000)])
        number += 2000
    used = sum(core.cpu_times()[:2]) - before
    return number / (time.monotonic() - begun), 1e6 * used / number


def spaced(viewers: Sequence[Viewer]) -> list[float]:
    """Return the seconds between the updates of all pages; messages of one update count once."""
    found: list[float] = []
    for viewer in viewers:
        bursts = [at for before, at in itertools.pairwise(viewer.updates) if at - before > 0.2]
        found += [after - before for before, after in itertools.pairwise(bursts)]
    return found


def memory(url: str, monitor: psutil.Process, pages: int) -> tuple[float, float]:
    """Open and close pages; return the Monitor's memory after the first half and after the second, in MB."""
    found = []

    async def look(begin: int) -> None:
        for at in range(begin, begin + pages // 2, 5):
            await asyncio.gather(*(Viewer(url, PAGES[n % len(PAGES)]).watch(1.5) for n in range(at, at + 5)))

    for half in range(2):
        asyncio.run(look(half * pages // 2))
        time.sleep(CLOSED_S)
        found.append(monitor.memory_info().rss / 1e6)
    return found[0], found[1]


def main(words: Sequence[str] | None = None) -> dict[str, float]:
    """Measure, and print one line for each figure."""
    options = arguments(words)
    with tempfile.TemporaryDirectory(prefix="nblb-viewers-") as folder:
        settings = {"LB_NAME": "viewers", "LB_STATE_DIR": f"{folder}/state", "MONITOR_PORT": 0}
        with lb.start(settings, workers=2) as cluster:
            found = measured(cluster, options)
    for name, value in found.items():
        print(f"{name:<46}{value:>12,.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
    return found


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the command's options."""
    command = argparse.ArgumentParser(prog="python -m tests.benchmarks.viewers", description=__doc__)
    command.add_argument("--viewers", type=int, default=20)
    command.add_argument("--ended", type=int, default=100_000, help="tasks that have ended before")
    command.add_argument("--seconds", type=float, default=30.0, help="of each of the rounds")
    command.add_argument("--rounds", type=int, default=3, help="with and without viewers by turns")
    command.add_argument("--pages", type=int, default=300, help="opened and closed; 0 leaves memory out")
    command.add_argument("--json", metavar="FILE")
    command.add_argument("--short", action="store_true", help="a small run of everything")
    options = command.parse_args(words)
    if options.short:
        options.viewers, options.ended, options.seconds, options.rounds, options.pages = 5, 5000, 6.0, 2, 20
    return options


def measured(cluster: Any, options: argparse.Namespace) -> dict[str, float]:
    """Return the figures of a running cluster."""
    url = wait_until(lambda: cluster.monitor_url, 60, "the Monitor")
    status = cluster.status()
    core = psutil.Process(status["pid"])
    place = urlsplit(url)
    monitor = next(
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == place.port and one.pid
    )

    @lb.task
    def small(x: int) -> int:
        return x

    small.map(range(options.ended), job="ended").wait()
    loads = load(url)
    rates: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    gaps: list[float] = []
    for _ in range(options.rounds):
        rates[False].append(rate(small, core, options.seconds))
        with watched(url, options.viewers, options.seconds + 5) as viewers:
            rates[True].append(rate(small, core, options.seconds))
        gaps += spaced(viewers)
    alone, seen = ([statistics.median(one) for one in zip(*rates[with_], strict=True)] for with_ in (False, True))
    found = {
        "tasks a second without viewers": alone[0],
        f"tasks a second with {options.viewers} viewers": seen[0],
        "fall of the throughput, %": 100 * (1 - seen[0] / alone[0]),
        "core's time for a task without viewers, us": alone[1],
        f"core's time for a task with {options.viewers}, us": seen[1],
        "more of the core's time, %": 100 * (seen[1] / alone[1] - 1),
        "seconds to a page's first update, median": statistics.median(loads),
        "seconds to a page's first update, longest": max(loads),
        "seconds between updates, median": statistics.median(gaps) if gaps else float("nan"),
        "seconds between updates, 95 %": sorted(gaps)[int(0.95 * len(gaps))] if gaps else float("nan"),
    }
    if options.pages:
        first, second = memory(url, monitor, options.pages)
        half = options.pages // 2
        found |= {f"Monitor's memory after {half} pages, MB": first, f"… after {half} more, MB": second}
        found["kB that each of the latter has left"] = 1000 * (second - first) / half
    return found


if __name__ == "__main__":
    main()
