"""The shared browser of the tests: the page of one test does not affect the next."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.browser import chromium
from tests.browser.lab import Lab, browser_page

SIZE = (300, 200)


def works() -> bool:
    with chromium.page(SIZE, dark=True) as page:
        dark = page.evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches")
        return bool(dark and page.viewport_size == {"width": 300, "height": 200})


def browsers() -> list[psutil.Process]:
    """Those of this process: Chromium's own processes have a type."""
    return [one for one in psutil.Process().children(recursive=True) if is_browser(one)]


def is_browser(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it has ended
        words = process.cmdline()
        return any("--remote-debugging-p" in word for word in words) and not any("--type=" in word for word in words)
    return False


def test_the_browser_starts() -> None:
    """Where it does not, this fails alone: tests/conftest.py skips all others that need it."""
    if reason := chromium.why_it_does_not_start():
        pytest.fail(f"the browser does not start: {reason}", pytrace=False)


def test_pages_share_one_browser_and_are_closed() -> None:
    assert works()
    (browser,) = browsers()
    assert works()
    assert browsers() == [browser]


def test_after_a_failed_test_another_browser_is_started() -> None:
    assert works()
    (before,) = browsers()
    with pytest.raises(ValueError, match="the test's"), chromium.page(SIZE, dark=False):
        raise ValueError("the test's own error")
    assert browsers() == []
    assert works()
    assert browsers() != [before]


def test_a_browser_that_was_killed_is_replaced() -> None:
    assert works()
    for browser in browsers():
        os.kill(browser.pid, signal.SIGKILL)
        browser.wait(20)
    assert works()


def test_a_page_that_crashed_fails_its_own_test_alone() -> None:
    with pytest.raises(Exception, match="crash"), chromium.page(SIZE, dark=False) as page:
        page.goto("chrome://crash")
    assert works()


def test_a_failed_test_leaves_a_picture(here: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLB_ARTIFACTS", str(tmp_path))
    with pytest.raises(AssertionError), browser_page(here, "unseen.ipynb", SIZE):
        raise AssertionError
    assert (tmp_path / "failed-unseen.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("chosen", "counted"),
    [
        ("browser_starts or share_one_browser or was_killed", "1 failed, 2 skipped"),
        ("share_one_browser or was_killed", "1 skipped"),
    ],
    ids=["with it", "without it"],  # -k looks at ids, too
)
def test_one_that_does_not_start_is_one_failure(tmp_path: Path, chosen: str, counted: str) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho a library is missing >&2\nexit 127\n")
    broken.chmod(0o755)
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}"]
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/browser/test_chromium.py", "-k", chosen],
        env=os.environ | {"CHROMIUM": str(broken)},
        cwd=chromium.ROOT,
        capture_output=True,
        text=True,
        timeout=150,
    ).stdout
    assert counted in said, said
    assert len(re.findall("^the browser does not start: ", said, re.MULTILINE)) == 1, said
    assert "a library is missing" in said
