"""One Chromium for all browser tests of a file; starting one for each test would compile JupyterLab each time.

Its pages share a profile on disk, so that a test finds JupyterLab's scripts in its cache, compiled; each test has a
page of its own. A browser that a failed test may have harmed is not used again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--no-first-run",
    "--disable-background-networking",
    "--force-color-profile=srgb",
)


def missing() -> str:
    """Why no Chromium can be driven here, "" if it can."""
    if not Path(CHROMIUM).exists() and not shutil.which(CHROMIUM):
        return f"no Chromium at {CHROMIUM} (the variable CHROMIUM names another)"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed"
    return ""


START_S = 100.0  # on a machine of which others take the most
WAIT_S = 60.0  # there, too
OPEN_A_PAGE = "from tests.browser import chromium\nwith chromium.page((300, 200), dark=False): pass"


@functools.cache
def why_it_does_not_start() -> str:
    """What a browser that is installed says when it cannot be started, "" if it can.

    A process of its own tries it: a driver that ends while it starts leaves a running event loop in its thread.
    """
    command = [sys.executable, "-c", OPEN_A_PAGE]
    tried = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said = tried.communicate(timeout=START_S)[1]
    except subprocess.TimeoutExpired:
        os.killpg(tried.pid, signal.SIGKILL)
        tried.communicate()
        return f"{CHROMIUM} has not opened a page within {START_S:.0f} s"
    return f"{CHROMIUM} cannot open a page: {said.strip()[-2000:]}" if tried.returncode else ""


class Chromium:
    """A browser that is started when a page is wanted and it is not there (any more)."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self._driver: Any = None
        self._context: Any = None

    def page(self, size: tuple[int, int], dark: bool) -> Any:
        """An empty page of this size."""
        if self._context is not None:
            with contextlib.suppress(Exception):  # the browser has crashed meanwhile
                return self._open(size, dark)
            self.close()
        self._start()
        return self._open(size, dark)

    def _open(self, size: tuple[int, int], dark: bool) -> Any:
        page = self._context.new_page()
        page.set_default_timeout(1000 * WAIT_S)
        page.set_viewport_size({"width": size[0], "height": size[1]})
        scheme = "dark" if dark else "light"
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # each step of a bar would be twelve frames
        return page

    def _start(self) -> None:
        from playwright.sync_api import sync_playwright

        self._driver = sync_playwright().start()
        self._context = self._driver.chromium.launch_persistent_context(
            self._profile, executable_path=CHROMIUM, headless=True, args=list(ARGUMENTS)
        )

    def close(self) -> None:
        """Ends it, in whatever state it is."""
        driver, context, self._driver, self._context = self._driver, self._context, None, None
        if context is not None:
            with contextlib.suppress(Exception):  # it has crashed
                context.close()
        if driver is not None:
            driver.stop()


_shared: Chromium | None = None


@contextlib.contextmanager
def shared(profile: Path) -> Iterator[None]:
    """All pages that are opened meanwhile are of one browser, which keeps its cache in this folder."""
    global _shared
    assert _shared is None
    _shared = Chromium(profile)
    try:
        yield
    finally:
        _shared.close()
        _shared = None


@contextlib.contextmanager
def page(size: tuple[int, int], dark: bool) -> Iterator[Any]:
    """A page, of the shared browser if there is one; it is closed in the end, after a failure with its browser."""
    if _shared is None:
        with tempfile.TemporaryDirectory(prefix="nblb") as profile, shared(Path(profile)), page(size, dark) as opened:
            yield opened
        return
    try:
        opened = _shared.page(size, dark)
        yield opened
        opened.close()
    except BaseException:
        _shared.close()
        raise
