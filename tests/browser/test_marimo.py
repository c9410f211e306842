"""The cards in a real marimo, which shows anywidgets by its own protocol."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb import launch
from tests.browser import chromium
from tests.browser.conftest import ROOT
from tests.waiting import wait_until

pytest.importorskip("marimo")

NOTEBOOK = """import marimo
app = marimo.App()

@app.cell
def _():
    import time
    import nblb as lb
    cluster = lb.start("parameters.json", monitor=False)
    cluster
    return cluster, lb, time

@app.cell
def _(lb, time):
    @lb.task
    def nap(x):
        for _ in lb.track(range(40)):
            time.sleep(0.05)
        if x == 2:
            raise ValueError("too tired")
        return x
    job = nap.map(range(3), job="naps")
    job
    return job, nap

@app.cell
def _(nap):
    waited = nap.map(range(100, 104), job="waited").results()
    waited
    return (waited,)

@app.cell
def _(lb, waited):
    lb.jobs()
    return
"""


@contextlib.contextmanager
def marimo(folder: Path, runtime: Path) -> Iterator[str]:
    """`marimo edit` on the notebook in a folder; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "home" / "config" / "marimo" / "marimo.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[runtime]\nauto_instantiate = true\n")  # runs all cells
    homes = {f"XDG_{name}_HOME": str(folder / "home" / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "DATA")}
    environment = {**os.environ, **homes, "PYTHONPATH": str(ROOT), "NBLB_RUNTIME_DIR": str(runtime)}
    words = ("edit", "notebook.py", "--headless", "--no-token", "--skip-update-check", "--host", "127.0.0.1")
    with (folder / "marimo.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "marimo", *words, "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), 100, "marimo", every_s=0.2)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_cards_live_in_marimo(
    tmp_path: Path, runtime_base: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, artifacts: Path
) -> None:
    runtime = Path(tempfile.mkdtemp(dir=runtime_base))
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(runtime))
    settings["LB_NAME"] = "in-marimo"
    (tmp_path / "parameters.json").write_text(json.dumps(settings))
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    try:
        with marimo(tmp_path, runtime) as url, chromium.page((1200, 1600), dark=False) as page:
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(url)
            cluster, job = page.get_by_role("group", name="in-marimo"), page.get_by_role("group", name="naps")
            cluster.get_by_text("● up").wait_for(timeout=90_000)
            bar = job.get_by_role("progressbar")
            bar.wait_for(timeout=60_000)
            wait_until(lambda: int(bar.get_attribute("aria-valuenow") or 0) >= 20, 60, "it moves by itself")
            page.get_by_role("group", name="waited").get_by_role("progressbar").wait_for(timeout=60_000)
            page.screenshot(path=artifacts / "marimo.png")
            job.get_by_text("✗ failed").first.wait_for(timeout=60_000)
            jobs = page.get_by_role("group", name="jobs")
            jobs.get_by_text("4 of 4 tasks").wait_for(timeout=60_000)  # the cell that waited is over

            job.get_by_role("slider", name="every item").press("End")
            job.get_by_role("slider", name="every item").press("Enter")
            item = job.get_by_role("region", name="opened item")
            item.get_by_text("ValueError: too tired").first.wait_for(timeout=30_000)
            job.get_by_role("button", name="Retry failed").click()
            job.get_by_text("▶ running").first.wait_for(timeout=30_000)
            job.get_by_role("button", name="Cancel").click()
            job.get_by_text("⊘ cancelled").first.wait_for(timeout=30_000)
            assert errors == []
    finally:
        launch.stop(settings)
