"""The state of a worker's process that is restored after a task, and the state that stays."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb.protocol.messages import RunTask, TaskPrinted
from tests.hub.pool_rig import PoolRig


@pytest.fixture(scope="module")
def rig() -> Iterator[PoolRig]:
    with contextlib.closing(PoolRig()) as rig:
        yield rig


def look() -> dict[str, Any]:
    """The state that is put back, in a form that travels."""
    import signal

    umask = os.umask(0)
    os.umask(umask)
    return {
        "folder": str(Path.cwd()),
        "umask": umask,
        "timers": [signal.getitimer(t)[0] for t in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
        "handler": getattr(signal.getsignal(signal.SIGINT), "__name__", "?"),
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "descriptors": [str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (0, 1, 2)],
    }


def changes_folder() -> None:
    os.chdir("/")


def removes_its_folder() -> None:
    import tempfile

    folder = tempfile.mkdtemp()
    os.chdir(folder)
    Path(folder).rmdir()


def changes_umask() -> None:
    os.umask(0o177)


def sets_timers() -> None:
    import signal

    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0.2)


def takes_the_interrupt() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})


def closes_descriptors() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


def redirects_descriptors() -> None:
    fd = os.open(os.devnull, os.O_RDWR)
    for low in (0, 1, 2):
        os.dup2(fd, low)
    os.close(fd)


@pytest.mark.parametrize(
    "change",
    [
        changes_folder,
        removes_its_folder,
        changes_umask,
        sets_timers,
        takes_the_interrupt,
        closes_descriptors,
        redirects_descriptors,
    ],
)
def test_what_nblb_stands_on_is_put_back(rig: PoolRig, change: Callable[[], None]) -> None:
    before, pid = rig.result(look), rig.result(os.getpid)
    rig.end_of(rig.give(change))
    assert rig.result(look) == before
    assert rig.result(os.getpid) == pid


def closes_stdout() -> None:
    import sys

    sys.stdout.close()


def detaches_stdout() -> None:
    import sys

    sys.stdout.detach()


def replaces_stdout() -> None:
    import io
    import sys

    sys.stdout = sys.stderr = io.StringIO()


def stdout_is_nobody() -> None:
    import sys

    sys.stdout = sys.stderr = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "change",
    [closes_stdout, detaches_stdout, replaces_stdout, stdout_is_nobody, closes_descriptors, redirects_descriptors],
)
def test_the_next_task_prints_whatever_became_of_the_streams(rig: PoolRig, change: Callable[[], None]) -> None:
    def says() -> None:
        print("python")
        os.write(1, b"descriptor\n")
        os.system("echo child")

    pid = rig.result(os.getpid)
    rig.end_of(rig.give(change))
    run = rig.give(says)
    rig.end_of(run)
    assert printed(rig, run) == "python\ndescriptor\nchild\n"
    assert rig.result(os.getpid) == pid


def printed(rig: PoolRig, run: RunTask) -> str:
    return "".join(event.text for _, event in rig.events if isinstance(event, TaskPrinted) and event.task == run.task)


def test_what_a_user_has_set_up_stays_for_the_next_tasks(rig: PoolRig) -> None:
    def sets_up() -> None:
        import json
        import locale
        import resource
        import signal
        import sys
        import warnings

        import __main__

        os.environ["MINE"] = "1"
        sys.path.append("/mine")
        locale.setlocale(locale.LC_ALL, "C")
        warnings.simplefilter("error")
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.setrecursionlimit(3000)
        __main__.mine = json.mine = 1  # type: ignore[attr-defined]

    def finds() -> list[bool]:
        import json
        import resource
        import signal
        import sys
        import warnings

        import __main__

        return [
            os.environ.get("MINE") == "1",
            "/mine" in sys.path,
            warnings.filters[0][0] == "error",
            signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN,
            resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),
            sys.getrecursionlimit() == 3000,
            hasattr(__main__, "mine"),
            hasattr(json, "mine"),
        ]

    with contextlib.closing(PoolRig()) as own:
        own.end_of(own.give(sets_up))
        assert all(own.result(finds))
    assert not any(rig.result(finds)[:3])  # and it is of that process alone
