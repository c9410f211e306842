"""The words of a command line that has the options of another program as the value of one of its own."""

from __future__ import annotations

from collections.abc import Sequence


def joined(words: Sequence[str], option: str) -> list[str]:
    """Return the command line with this option and its value as one word: argparse takes no value that begins with -.

    Examples
    --------
    >>> joined(["hub", "--slurm", "--partition=main"], "--slurm")
    ['hub', '--slurm=--partition=main']
    """
    found, rest = list[str](), iter(words)
    for word in rest:
        value = next(rest, None) if word == option else None
        found.append(word if value is None else f"{option}={value}")
    return found
