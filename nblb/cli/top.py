"""`nblb top`: the cluster's workers, users and jobs on one screen that stays up to date, as `top` shows processes."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nblb.cli import colours
from nblb.cli.command import Commands, add, seconds, settings, show, table
from nblb.errors import LoadBalancerUnreachable
from nblb.launch import one_shot
from nblb.quantities import duration, size

LEAST_S = 0.2  # between two questions to the core
BAR = 20  # characters of a progress bar
MOST_JOBS, MOST_USERS = 8, 8
SHOW_SCREEN, HIDE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the second screen, without a cursor
HOME, TO_END_OF_LINE, TO_END = "\x1b[H", "\x1b[K", "\x1b[J"
TOPICS = ("status", "hubs", "workers", "users", "jobs")


def register(commands: Commands) -> None:
    command = add(commands, "top", top, "show workers, users and jobs, live", data=True)
    command.add_argument("--every", type=seconds, default=2.0, metavar="S", help="seconds between two updates (2)")
    command.add_argument("--once", action="store_true", help="print it once, as where stdout is no terminal")


def top(options: argparse.Namespace) -> int:
    """Show the cluster live: its busy workers first, users by use, and the jobs that go on; q or Ctrl-C ends it."""
    parameters = settings(options)
    address, _ = one_shot.find(parameters)
    picture = look(address)
    if options.once or options.json or not sys.stdout.isatty():
        show(options, picture, lambda: text(picture, 10_000))
        return 0
    with _screen() as is_left:
        while True:
            width, height = shutil.get_terminal_size()
            _draw(text(picture, height - 1), width)
            if is_left(max(LEAST_S, options.every)):
                return 0
            try:
                picture = {**look(one_shot.find(parameters)[0]), "away": ""}
            except LoadBalancerUnreachable as error:
                picture["away"] = str(error)


def look(address: str) -> dict[str, Any]:
    """The answers of the core that the screen is made of, by topic."""
    about: dict[str, dict[str, Any]] = {"jobs": {"limit": 100}}
    return {topic: one_shot.ask(address, topic, about.get(topic)) for topic in TOPICS}


def text(picture: Mapping[str, Any], lines: int) -> str:
    """The screen: at most so many lines, of which workers get what users and jobs leave."""
    status = picture["status"]
    memory = sum(row.get("memory_mb") or 0 for row in picture["workers"]) * 2**20
    counts = status["counts"]
    parts = (
        f"{status['name']}  {status['busy']:,} of {status['workers']:,} workers busy",
        f"{status['queued']:,} queued",
        f"{status['running']:,} running",
        f"{counts['DONE']:,} done",
        f"{counts['FAILED']:,} failed",
        f"{size(memory)} of memory",
        time.strftime("%H:%M:%S"),
    )
    head = [", ".join(parts)]
    if picture.get("away"):
        head.append(colours.painted(f"this is how it was: {picture['away']}", colours.RED))
    users = table(_users(picture["users"]), ("user", "running", "queued", "done", "failed", "used"), "no users")
    jobs = table(_jobs(picture["jobs"]), ("job", "user", "progress", "counts", "since"), "no job goes on")
    rest = [*_block(users), *_block(jobs)]
    workers = table(_workers(picture["workers"]), ("worker", "host", "state", "task", "user", "progress", "for", "cpu",
                                                   "memory"), "no workers").splitlines()  # fmt: skip
    room = max(2, lines - len(head) - len(rest) - 1)
    if len(workers) > room:
        workers = [*workers[: room - 1], f"… and {len(workers) - room + 1:,} more workers"]
    return "\n".join([*head, "", *workers, *rest][:lines])


def _block(shown: str) -> list[str]:
    return ["", *shown.splitlines()]


def _workers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    busy_first = sorted(rows, key=lambda row: (row["state"] != "busy", row["hub"], row["worker"]))
    return [
        {
            "worker": row["pid"] or row["worker"],
            "host": row["host"],
            "state": "suspect" if row["suspect"] else row["state"],
            "task": row["task_name"],
            "user": row["user"],
            "progress": f"{row['progress']:.0f} %" if row["state"] == "busy" and row["progress"] else "",
            "for": duration(row["since_s"]),
            "cpu": f"{row['own_cpu']:.0f} %" if row.get("own_cpu") is not None else "",
            "memory": size(row["memory_mb"] * 2**20) if row.get("memory_mb") else "",
        }
        for row in busy_first
    ]


def _users(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    most_first = sorted(rows, key=lambda row: (-row["running"], -row["queued"], row["user"]))[:MOST_USERS]
    return [{**row, "used": duration(row["used_s"])} for row in most_first]


def _jobs(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    going = sorted((row for row in rows if row["state"] == "running"), key=lambda row: -row["created_at"])[:MOST_JOBS]
    return [
        {
            "job": row["name"],
            "user": row["user"],
            "progress": _bar(row),
            "counts": row["counts"],
            "since": time.strftime("%H:%M:%S", time.localtime(row["created_at"])),
        }
        for row in going
    ]


def _bar(row: Mapping[str, Any]) -> str:
    ended = sum(row["counts"].get(state, 0) for state in ("DONE", "FAILED", "CANCELLED", "LOST"))
    share = min(1.0, (ended + row.get("progressed", 0.0)) / max(1, row["items"]))
    full = int(share * BAR)
    return f"{'█' * full}{'·' * (BAR - full)} {100 * share:.0f} %"


def _draw(screen: str, width: int) -> None:
    """Draws over the former picture, line by line, so that nothing flickers."""
    lines = [_cut(colours.cleaned(line), width) + TO_END_OF_LINE for line in screen.splitlines()]
    with contextlib.suppress(BlockingIOError):
        sys.stdout.write(HOME + "\r\n".join(lines) + TO_END)
        sys.stdout.flush()


def _cut(line: str, width: int) -> str:
    """The first `width` characters of a line, without counting colours."""
    shown, left = [], width
    for part in colours.split(line):
        if part.startswith("\x1b"):
            shown.append(part)
        else:
            shown.append(part[:left])
            left -= len(shown[-1])
    return "".join(shown)


@contextlib.contextmanager
def _screen() -> Iterator[Any]:
    """The terminal's second screen; gives a function that waits some seconds and returns whether q was pressed."""
    keys = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = termios.tcgetattr(keys) if keys is not None else None
    if keys is not None:
        tty.setcbreak(keys)
    sys.stdout.write(SHOW_SCREEN)

    def is_left(wait_s: float) -> bool:
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([keys] if keys is not None else [], [], [], left)
            if ready and keys is not None:
                pressed = os.read(keys, 64)
                return not pressed or b"q" in pressed.lower()
        return False

    try:
        yield is_left
    finally:
        sys.stdout.write(HIDE_SCREEN)
        sys.stdout.flush()
        if keys is not None and before is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)
