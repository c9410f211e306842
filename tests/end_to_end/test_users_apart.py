"""Users are separated: what a task leaves in its process does not reach another user's task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """One worker: it must be replaced for each change of the user."""
    return settings | {"WKHUB_WORKERS": [{"nWorkers": 1, "minP": 0, "maxP": 1000}]}


@pytest.fixture
def cluster(parameters: Parameters) -> Iterator[Cluster]:
    with launch.start(parameters, monitor=False) as cluster:
        wait_until(lambda: len(cluster.workers()) == 1, 20, "a worker")
        yield cluster


def leaves() -> int:
    """Changes whatever a process has."""
    import builtins
    import json
    import locale
    import resource
    import signal
    import sys
    import threading
    import warnings

    import __main__

    os.environ["LEFT"] = "1"
    sys.path.insert(0, "/left")
    os.umask(0o777)
    locale.setlocale(locale.LC_NUMERIC, "C")
    warnings.simplefilter("error")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    sys.setrecursionlimit(5000)
    __main__.left = builtins.left = json.left = 1  # type: ignore[attr-defined]
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    sys.stdout.close()
    sys.argv.append("left")
    return os.getpid()


def found() -> tuple[int, list[str]]:
    """The process, and what of the changes is seen in it."""
    import builtins
    import json
    import resource
    import signal
    import sys
    import threading
    import warnings

    import __main__

    umask = os.umask(0)
    os.umask(umask)
    print("stdout works")
    seen = {
        "environment": "LEFT" in os.environ,
        "path": "/left" in sys.path,
        "umask": umask == 0o777,
        "warnings": warnings.filters[0][0] == "error",
        "handler": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 64,
        "recursion": sys.getrecursionlimit() == 5000,
        "main": hasattr(__main__, "left"),
        "builtins": hasattr(builtins, "left"),
        "module": hasattr(json, "left"),
        "thread": threading.active_count() > 1,
        "arguments": "left" in sys.argv,
    }
    return os.getpid(), [name for name, is_seen in seen.items() if is_seen]


def test_nothing_of_one_user_is_seen_by_another(cluster: Cluster) -> None:
    def ask(function: Any, user: str) -> Any:
        return lb.task(function).options(user=user).submit().result(60)

    first = ask(leaves, "ann")
    assert ask(found, "ann")[0] == first  # the same user goes on in the same process
    second, seen = ask(found, "bob")
    assert (second != first, seen) == (True, [])
    third, seen = ask(found, "ann")
    assert (third not in (first, second), seen) == (True, [])
    wait_until(lambda: len(cluster.workers()) == 1)


def test_two_users_loads_go_on_side_by_side(cluster: Cluster) -> None:
    """Each change of the user costs one fork; nothing waits for ever, and nothing is lost."""
    jobs = [lb.task(abs).options(user=user, job=user).map(range(200)) for user in ("ann", "bob", "cid")]
    for job in jobs:
        assert job.results(60) == list(range(200))
    singles = [lb.task(abs).options(user=user).submit(-n) for n in range(10) for user in ("ann", "bob")]
    assert [single.result(60) for single in singles] == [n for n in range(10) for _ in range(2)]
