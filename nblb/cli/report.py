"""The command that writes a report of a job, or of a time, to a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from nblb.cli.command import Commands, add
from nblb.errors import NblbError
from nblb.host import account
from nblb.launch import one_shot
from nblb.parameters import load

UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
MOST_S = 604800.0


def register(commands: Commands) -> None:
    command = add(commands, "report", report, "write a report of a job, or of the last hours or days, as one HTML file")
    command.add_argument(
        "what", nargs="+", metavar="JOB OUT.html", help="name or id of a job, and the file; or only the file"
    )
    command.add_argument(
        "--since", type=span, metavar="TIME", help="of everything in this time: 30m, 6h, 2d, 1w at most"
    )
    command.add_argument("--user", default="", help="owner of the job, if not this account")


def report(options: argparse.Namespace) -> int:
    """Write a report of a job (its name or id), or with --since of a time, as one HTML file that needs nothing else."""
    from nblb.monitoring import report as made

    *names, out = options.what
    if bool(names) == bool(options.since) or len(names) > 1:
        raise NblbError("give a job and a file, or --since TIME and a file: nblb report sweep out.html")
    address, _ = one_shot.find(load(options.parameters))

    def ask(topic: str, about: dict[str, object]) -> object:
        answer = one_shot.ask(address, topic, {key: value for key, value in about.items() if value}, timeout_s=20.0)
        while topic == "page" and isinstance(answer, dict) and answer.get("searched", 1.0) < 1.0:
            answer = one_shot.ask(address, topic, about, timeout_s=20.0)
        return answer

    user = options.user or account()
    text = made.time_report(ask, options.since) if options.since else made.job_report(ask, names[0], user)
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise NblbError(f"{out}: cannot be written: {error.strerror or error}") from None
    print(f"wrote {out}")
    return 0


def span(text: str) -> float:
    """Parses a time like 30m, 6h, 2d or 1w, at most a week."""
    number, unit = text[:-1], UNITS.get(text[-1:].lower())
    seconds = int(number) * unit if unit is not None and number.isdecimal() and len(number) < 7 else 0.0
    if not 0.0 < seconds <= MOST_S:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a time like 30m, 6h, 2d or 1w, at most a week")
    return seconds
