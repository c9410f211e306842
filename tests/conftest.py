"""Fixtures for all tests: private parameters, a real cluster, and a check that no process or file remains."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import psutil
import pytest

from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

pytest_plugins = ["tests.rewriting", "tests.distribution"]  # pytest --rewrite; pytest -n 3 --dist loadfile

# Each process that a test starts inherits this word, so the guard tells ours from those of other sessions.
# Not kept if it is set: each worker of pytest-xdist is a session of its own.
SESSION = os.environ["NBLB_TEST_SESSION"] = uuid.uuid4().hex
hypothesis.settings.register_profile("unhurried", deadline=None)  # no test fails by the machine's speed
hypothesis.settings.load_profile("unhurried")
hypothesis.settings.register_profile(
    "thorough",  # NBLB_HYPOTHESIS=thorough pytest -m decoder
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
if "NBLB_HYPOTHESIS" in os.environ:
    hypothesis.settings.load_profile(os.environ["NBLB_HYPOTHESIS"])

SHARED_MEMORY = Path("/dev/shm")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # what `./test &` inherits from a script's shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests of interrupts need it


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Handlers that a command of a test has set, as `nblb hub` does, must not end a later test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def _is_ours(process: psutil.Process) -> bool:
    """A process of nblb (core, hub, nursery, worker, …) that this test session started, however indirectly."""
    with contextlib.suppress(psutil.Error, OSError):
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        words = process.cmdline()
        return (
            any(word == "nblb" or word.startswith("nblb.") for word in words)
            and process.environ().get("NBLB_TEST_SESSION") == SESSION
        )
    return False


def nblb_processes() -> list[psutil.Process]:
    """All processes of nblb that live and were started by this session."""
    return [process for process in psutil.process_iter() if _is_ours(process)]


def _shared_segments() -> set[str]:
    if not SHARED_MEMORY.is_dir():
        return set()
    return {entry.name for entry in SHARED_MEMORY.iterdir() if "nblb" in entry.name.lower()}


@pytest.fixture(autouse=True)
def _main_stays() -> Iterator[None]:
    """An InteractiveShell puts a module of its own in the place of __main__, which nobody could spawn from."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def _no_cluster_stays() -> Iterator[None]:
    """A cluster that a test has left open would be the current one of a later test."""
    yield
    open_clusters: Any = sys.modules.get("nblb.client.open_clusters")
    while open_clusters is not None and (left := open_clusters.known()) is not None:
        left.close()
        open_clusters.forget(left)
    if open_clusters is not None:
        open_clusters._stopped.clear()


BROWSER_STARTS = "test_the_browser_starts"
NAMES_THE_BROWSER = pytest.StashKey[pytest.Item]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Of the tests that run, one is chosen to fail where the browser does not start."""
    with_browser = [item for item in session.items if item.get_closest_marker("browser")]
    named = [item for item in with_browser if item.name == BROWSER_STARTS]
    for item in (*named, *with_browser)[:1]:
        session.config.stash[NAMES_THE_BROWSER] = item


@pytest.fixture(autouse=True)
def _browser_starts(request: pytest.FixtureRequest) -> None:
    """A browser that does not start is one failure, which says why; the other tests that need one are skipped."""
    if request.node.get_closest_marker("browser") is None:
        return
    from tests.browser import chromium

    if reason := chromium.missing():
        pytest.skip(reason)
    if request.node.name != BROWSER_STARTS and (reason := chromium.why_it_does_not_start()):
        if request.node is request.config.stash[NAMES_THE_BROWSER]:
            pytest.fail(f"the browser does not start: {reason}", pytrace=False)
        pytest.skip("the browser does not start; the one test that fails of it says why")


@pytest.fixture(scope="session")
def runtime_base() -> Iterator[Path]:
    """A short private folder for sockets: the path of a Unix socket has 107 bytes at most."""
    base = Path(tempfile.mkdtemp(prefix="nb", dir="/tmp" if Path("/tmp").is_dir() else None))
    yield base
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(runtime_base: Path) -> Iterator[None]:
    """Fails the session when processes, sockets or shared memory of its tests outlive it."""
    segments = _shared_segments()
    yield
    with contextlib.suppress(AssertionError):  # those that are on their way out
        wait_until(lambda: not nblb_processes(), 5, "processes to end", every_s=0.1)
    left = [f"process {p.pid}: {' '.join(p.cmdline())[:200]}" for p in nblb_processes()]
    for process in nblb_processes():
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    left += [f"socket {path}" for path in runtime_base.rglob("*") if path.is_socket()]
    left += [f"shared memory {name}" for name in _shared_segments() - segments]
    assert not left, "the tests left behind:\n  " + "\n  ".join(left)


@pytest.fixture
def settings(tmp_path: Path, runtime_base: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a test's parameters.json says: private folders, any free port, two workers. Change it before use."""
    runtime = Path(tempfile.mkdtemp(dir=runtime_base))
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(runtime))
    return {
        "LB_NAME": "t",
        "LB_STATE_DIR": str(tmp_path / "state"),
        "LB_WKPULLPORT": 0,
        "LB_HCREPPORT": 0,
        "LB_CLIENTPULLPORT": 0,
        "WKHUB_LBPORT": 0,
        "WKHUB_HCPORT": 0,
        "MONITOR_PORT": 0,
        "WKHUB_WORKERS": [{"nWorkers": 2, "minP": 0, "maxP": 1000, "processP": 0}],
    }


@pytest.fixture
def parameters(settings: dict[str, Any]) -> Parameters:
    """Checked parameters of a cluster that nobody else can meet."""
    from nblb.parameters import load

    return load(settings)


@pytest.fixture
def parameters_file(settings: dict[str, Any], tmp_path: Path) -> str:
    """The same as a parameters.json, for everything that takes a path."""
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return str(path)


@pytest.fixture
def cluster(parameters: Parameters) -> Iterator[Cluster]:
    """A real core and hub with two idle workers; ended, whatever the test did to it."""
    from nblb import launch

    try:
        cluster = launch.start(parameters, monitor=False)
        wait_until(lambda: len(cluster.workers()) >= 2, 20, "two workers")
        yield cluster
    finally:
        launch.stop(parameters)
