"""Helpers for commands: their arguments, and output as a table for people or JSON for programs."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
MOST_DIGITS = 12  # of a whole number
MOST_SECONDS = 1e7  # four months
Run: TypeAlias = Callable[[argparse.Namespace], "int | None"]


def add(
    commands: Commands, name: str, run: Run, what: str, data: bool = False, parameters: bool = True
) -> argparse.ArgumentParser:
    """Adds a command; `data`: it prints data, so it has --json."""
    command = commands.add_parser(name, help=what, description=run.__doc__ or what)
    command.set_defaults(run=run)
    if parameters:
        command.add_argument(
            "-p", "--parameters", "--pfile", metavar="FILE", help="a parameters.json (default: the shipped settings)"
        )
    if data:
        command.add_argument("--json", action="store_true", help="print JSON")
    return command


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


def seconds(text: str) -> float:
    """Parses a time in seconds, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number <= MOST_SECONDS:  # also refuses nan
        raise argparse.ArgumentTypeError(f"{_clipped(text)} is not a number of seconds from 0 to {MOST_SECONDS:,.0f}")
    return number


def _clipped(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def show(options: argparse.Namespace, value: Any, text: Callable[[], str]) -> None:
    """Prints `value` as JSON with --json, else as text for people."""
    print(json.dumps(value, indent=1, default=str) if options.json else text())


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], empty: str) -> str:
    """Formats rows as a table with headings."""
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [[_cell(row.get(column, "")) for column in columns] for row in rows]
    if len(cells) == 1:
        return empty
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    if isinstance(value, Mapping):
        return ", ".join(f"{number} {word}" for word, number in value.items() if number)
    return str(value)
