"""Calls LB_ON_JOB_END, a command or a web address, for each job that ends; the core never waits for it.

Each call is a process of its own, which gets a JSON object on its standard input. At most MOST_RUNNING run at once,
each is killed after LIMIT_S, and at most MOST_WAITING jobs wait for theirs: of more, the core's log has the names.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nblb.system import isolated_python

MOST_RUNNING = 4
MOST_WAITING = 200
LIMIT_S = 60.0
LOOK_S = 0.5


class JobEndHook:
    """The calls of a core; `what` is LB_ON_JOB_END, "" for none."""

    def __init__(self, what: str, folder: Path, log: Callable[[str, str], None]) -> None:
        self._what, self._folder, self._log = what, folder, log
        self._waiting: deque[dict[str, Any]] = deque()
        self._running: list[tuple[subprocess.Popen[bytes], float, str]] = []

    def add(self, jobs: Iterable[dict[str, Any]]) -> None:
        """Call the hook for these jobs, as soon as others have ended."""
        if not self._what:
            return
        for job in jobs:
            if len(self._waiting) >= MOST_WAITING:
                self._log("warning", f"LB - LB_ON_JOB_END IS TOO SLOW : it is not called for job {job.get('name')}")
            else:
                self._waiting.append(job)

    def poll(self, now: float) -> None:
        """Begin the calls for which there is room, and end those that take too long."""
        if not self._waiting and not self._running:
            return
        left = []
        for process, until, name in self._running:
            code = process.poll()
            if code is None and now < until:
                left.append((process, until, name))
                continue
            if code is None:
                _kill(process)
                self._log("warning", f"LB - LB_ON_JOB_END WAS KILLED after {LIMIT_S:.0f} s for job {name}")
            elif code:
                self._log("warning", f"LB - LB_ON_JOB_END FAILED with exit code {code} for job {name}")
        self._running = left
        while self._waiting and len(self._running) < MOST_RUNNING:
            self._call(self._waiting.popleft(), now)

    def deadline(self, now: float) -> float | None:
        """Return the time of the next look; None if nothing runs or waits."""
        return now + LOOK_S if self._waiting or self._running else None

    def close(self) -> None:
        """Kill what still runs."""
        for process, _, _ in self._running:
            _kill(process)
        self._running = []

    def _call(self, job: dict[str, Any], now: float) -> None:
        is_address = self._what.startswith(("http://", "https://"))
        command = isolated_python.command("nblb.system.post_json", [self._what]) if is_address else self._what
        name = str(job.get("name"))
        given = {"NBLB_JOB": str(job.get("job")), "NBLB_JOB_NAME": name, "NBLB_JOB_STATE": str(job.get("state"))}
        try:
            process = subprocess.Popen(
                command,
                shell=not is_address,  # the owner of the cluster has written it
                stdin=subprocess.PIPE,
                stdout=sys.stderr if sys.stderr is not None and _has_file(sys.stderr) else subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**os.environ, **given},
                start_new_session=True,
            )
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it does not read
                process.stdin.write(json.dumps(job, default=str).encode())  # far less than a pipe takes at once
                process.stdin.close()
        except OSError as error:
            self._log("warning", f"LB - LB_ON_JOB_END CANNOT BE CALLED for job {name} : {error}")
            return
        self._running.append((process, now + LIMIT_S, name))


def _has_file(stream: Any) -> bool:
    try:
        return int(stream.fileno()) >= 0
    except (OSError, ValueError, AttributeError):
        return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
