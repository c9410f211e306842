"""Fixtures of the browser tests: one JupyterLab per process, one browser per file, one notebook per test."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb import launch
from tests.browser import chromium
from tests.browser.lab import Lab, lab, missing

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(400))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def profile() -> Iterator[Path]:
    """Where Chromium keeps JupyterLab's compiled scripts from one file to the next."""
    with tempfile.TemporaryDirectory(prefix="nblb", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module", autouse=True)
def _one_browser(profile: Path) -> Iterator[None]:
    """For a file and no longer: while it lives, its driver's event loop is the running one of this thread."""
    with chromium.shared(profile):
        yield


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots go: NBLB_ARTIFACTS, or a folder that the system cleans up."""
    folder = Path(os.environ.get("NBLB_ARTIFACTS") or Path(tempfile.gettempdir()) / "nblb-screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory, runtime_base: Path) -> Iterator[Lab]:
    """JupyterLab with the package on its kernels' path and a private runtime folder."""
    runtime = Path(tempfile.mkdtemp(dir=runtime_base))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with lab(tmp_path_factory.mktemp("lab"), runtime, PYTHONPATH=path) as running:
        yield running


@pytest.fixture
def stage(here: Lab, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """parameters.json beside the notebooks; the cluster that a notebook starts with it is ended."""
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(here.runtime))
    settings["LB_NAME"] = f"t-{uuid.uuid4().hex[:8]}"
    (here.root / "parameters.json").write_text(json.dumps(settings))
    try:
        yield settings
    finally:
        launch.stop(settings)
