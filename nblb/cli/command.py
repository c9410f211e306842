"""Helpers for commands: their arguments, and output as a table for people or JSON for programs."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from nblb.access import connection_file
from nblb.access.limits import LEAST_SHARE, MOST_SHARE
from nblb.cli import colours
from nblb.parameters import Parameters, connected, load
from nblb.quantities import UNITS
from nblb.user_text import clean_name, user_names

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
OF_HUBS = ("WKHUB_", "LB_ORPHAN_S")  # starts of the names of settings that are a hub's own
MOST_DIGITS = 12  # of a whole number
MOST_SECONDS = 1e7  # four months
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt])?i?b?")
Run: TypeAlias = Callable[[argparse.Namespace], "int | None"]


def add(
    commands: Commands, name: str, run: Run, what: str, data: bool = False, parameters: bool = True
) -> argparse.ArgumentParser:
    """Adds a command; `data`: it prints data, so it has --json."""
    command = commands.add_parser(name, help=what, description=run.__doc__ or what)
    command.set_defaults(run=run, command=name)
    if parameters:
        command.add_argument(
            "-p", "--parameters", "--pfile", metavar="FILE", help="a parameters.json (default: the shipped settings)"
        )
        command.add_argument("--cluster", metavar="NAME", help="a cluster on another computer that was joined here")
        command.add_argument("--connect", metavar="FILE", help="the connection file of such a cluster")
    if data:
        command.add_argument("--json", action="store_true", help="print JSON")
    return command


def settings(options: argparse.Namespace, role: str = "") -> Parameters:
    """The parameters that a command was given: those of a file, or of a cluster that was joined.

    Parameters
    ----------
    options
        The command's.
    role
        "hub" for a hub, whose connection file is another; it takes its own settings from the file beside it.
    """
    given: str | None = getattr(options, "parameters", None)
    cluster, file = getattr(options, "cluster", None), getattr(options, "connect", None)
    if cluster is None and file is None:
        return load(given)
    path = Path(file) if file is not None else connection_file.named(str(cluster), role)
    found = connected(path)
    if given is None:
        return found
    own = {key: value for key, value in load(given).as_dict().items() if key.startswith(OF_HUBS)}
    return found.changed(**own)


def duration(text: str) -> float:
    """Parses a length of time such as 90s, 30m, 1h or 7d; a plain number is seconds."""
    unit = UNITS.get(text[-1:].lower())
    return seconds(text[:-1]) * unit if unit else seconds(text)


def json_object(text: str) -> dict[str, Any]:
    """Parses a JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{_clipped(text)} is not a JSON object, such as {{"max_workers": 4}}')
    return found


def lifetime(text: str) -> float | None:
    """Parses a length of time, as `duration` does; None for "auto"."""
    return None if text == "auto" else duration(text)


def count(text: str) -> int:
    """Parses a whole number, 0 or more."""
    number = int(text) if text.strip().isdecimal() and len(text) <= MOST_DIGITS else -1
    if number < 0:
        limit = f" and {10**MOST_DIGITS - 1:,} at most" if len(text) > MOST_DIGITS else ""
        raise argparse.ArgumentTypeError(f"{_clipped(text)} is not a whole number, 0 or more{limit}")
    return number


def at_least_one(text: str) -> int:
    """Parses a whole number, 1 or more."""
    number = int(text) if text.strip().isdecimal() and len(text) <= MOST_DIGITS else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{_clipped(text)} is not a whole number from 1 to {10**MOST_DIGITS - 1:,}")
    return number


def users(text: str) -> list[str]:
    """Parses names of users, separated by commas."""
    try:
        return list(user_names(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def seconds(text: str) -> float:
    """Parses a time in seconds, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number <= MOST_SECONDS:  # also refuses nan
        raise argparse.ArgumentTypeError(f"{_clipped(text)} is not a number of seconds from 0 to {MOST_SECONDS:,.0f}")
    return number


def size(text: str) -> int:
    """Parses a number of bytes such as 500MB or 1.5GB, where 1 MB is 1024 kB; a plain number is bytes."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{_clipped(text)} is not a size such as 500MB or 2GB")
    number, prefix = match.groups()
    return int(float(number) * 1024 ** " kmgt".index(prefix or " "))


def share(text: str) -> float:
    """Parses a share of the workers, a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not LEAST_SHARE <= number <= MOST_SHARE:
        limits = f"from {LEAST_SHARE:g} to {MOST_SHARE:g}"
        raise argparse.ArgumentTypeError(f"{_clipped(text)} is not a share; it must be a number {limits}")
    return number


def _clipped(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def show(options: argparse.Namespace, value: Any, text: Callable[[], str]) -> None:
    """Prints `value` as JSON with --json, else as text for people."""
    if options.json:
        print(json.dumps(value, indent=1, default=str))
        return
    print(colours.cleaned(text()))


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], empty: str) -> str:
    """Formats rows as a table with headings; on a terminal headings are bold, and states have their colours."""
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [[_cell(row.get(column, "")) for column in columns] for row in rows]
    if len(cells) == 1:
        return empty
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["  ".join(_painted(cell, width, column) for cell, width, column in zip(line, widths, columns, strict=True))
             for line in cells[1:]]  # fmt: skip
    head = "  ".join(cell.ljust(width) for cell, width in zip(cells[0], widths, strict=True))
    return "\n".join([colours.painted(head.rstrip(), colours.BOLD), *(line.rstrip() for line in lines)])


def _painted(cell: str, width: int, column: str) -> str:
    """The cell, filled up to its width behind the colour."""
    colour = colours.of_state(cell) if column in ("state", "counts", "active") else ""
    return colours.painted(cell, colour) + " " * (width - len(cell))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    if isinstance(value, Mapping):
        return ", ".join(f"{number} {word}" for word, number in value.items() if number)
    return clean_name(str(value))
