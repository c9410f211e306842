"""Runs one case of one system in this process: `python -m tests.benchmarks.one SYSTEM CASE SIZE`; run.py starts it.

Prints a line FIGURES CASE {…}, or WORD CASE … if the system cannot run the case. CASE may be several cases separated by
commas, which run one after the other on a system that is started once. With `--attach ADDRESS SYSTEM TASKS USER`, the
process is one of many clients of a running system instead.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from nblb.bench import work as shared_work
from nblb.bench.system import Impossible
from tests.benchmarks import work
from tests.benchmarks.cases import CASES, SIZES, on_running, shared, startup
from tests.benchmarks.registry import SYSTEMS, Entry

# Like a notebook's tasks, these are functions of __main__, which are sent by value if a system can do that. They are
# set on import, so that pools that spawn their workers find them as well.
for _module, _names in (
    (shared_work, ("noop", "pid", "spin", "ends")),
    (work, ("wait_for", "nap", "command", "simulate", "chatter", "Estimator")),
):
    for _name in _names:
        _function = getattr(_module, _name)
        _function.__module__ = "__main__"
        globals()[_name] = _function

BETTER_IF_LESS = {"imbalance"}
NAP_S = 0.005
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # run.py's time limit is over: close what was started
    if arguments[0] == "--attach":
        be_a_client(*arguments[1:])
        return
    name, said, size = arguments
    entry, cases = SYSTEMS[name], said.split(",")
    if len(cases) == 1:
        tell(cases[0], lambda: run(entry, cases[0], size))
    else:
        run_together(entry, cases, size)


def tell(case: str, measure: Callable[[], dict[str, float]]) -> None:
    begun = perf_counter()
    try:
        said = "FIGURES", json.dumps(measure())
    except Impossible as impossible:
        said = "WORD", str(impossible)
    print(said[0], case, round(perf_counter() - begun, 2), said[1], flush=True)


def run_together(entry: Entry, cases: list[str], size: str) -> None:
    """Run several cases on one system; a failure affects only its own case."""
    if entry.loopback_only:
        leave_the_network()
    running: Any = entry.load()()
    try:
        for case in cases:
            try:
                tell(case, partial(on_running, shared.CASES[case], running, SIZES[size]))
            except Exception as error:
                print(
                    "WORD", case, 0.0, f"failed: {type(error).__name__}: {error}"[:120].replace("\n", " "), flush=True
                )
    finally:
        running.close()


def run(entry: Entry, case: str, size: str) -> dict[str, float]:
    """Run a case with each setting that a system has for it, and return the best figures."""
    if entry.loopback_only:
        leave_the_network()
    if case == "startup":  # its imports count
        return startup(_Starter(entry.load), SIZES[size])
    system: Any = entry.load()
    found = [CASES[case](_Starter(lambda: system, settings), SIZES[size]) for settings in system.tries.get(case, [{}])]
    return min(found, key=lambda figures: next(iter(figures.values()))) if case in BETTER_IF_LESS else found[0]


class _Starter:
    """A function that starts a system as a case needs it."""

    def __init__(self, load: Callable[[], Any], settings: dict[str, Any] | None = None) -> None:
        self._load = load
        self._settings = settings or {}

    def __call__(self) -> Any:
        return self._load()(**self._settings)

    def with_hubs(self, hubs: int) -> Any:
        return self._load().with_hubs(hubs)


def be_a_client(address: str, name: str, tasks: str, user: str) -> None:
    """Connect as a user, and submit on request: first empty tasks, then tasks that take a while."""
    system: Any = SYSTEMS[name].load()
    running = system.attach(address, user)
    running.run(work.nap, [0.001])
    for function, arguments in (
        (shared_work.noop, list(range(int(tasks)))),
        (work.nap, [NAP_S] * max(2, int(tasks) // 10)),
    ):
        running.run(function, arguments[:2])
        print("READY", flush=True)
        sys.stdin.readline()
        begun = perf_counter()
        if running.run(function, arguments) != arguments:
            raise AssertionError("results are not those of the tasks")
        print(perf_counter() - begun, flush=True)
    running.close()


def leave_the_network() -> None:
    """Restrict this process and its children to loopback.

    Raises
    ------
    Impossible
        The system does not allow network namespaces.
    """
    if sys.platform != "linux":
        raise Impossible("not kept to loopback")
    libc = ctypes.CDLL(None, use_errno=True)
    who = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) != 0:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            raise Impossible("not kept to loopback")
        for path, line in (
            ("setgroups", "deny"),
            ("uid_map", f"{who[0]} {who[0]} 1"),
            ("gid_map", f"{who[1]} {who[1]} 1"),
        ):
            with open(f"/proc/self/{path}", "w") as file:
                file.write(line)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


if __name__ == "__main__":
    main(sys.argv[1:])
