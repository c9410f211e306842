"""Durations and sizes as text for people: the same words on cards, on the Monitor, in tables and in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def duration(seconds: float) -> str:
    """Return a length of time in two units at most.

    Parameters
    ----------
    seconds
        The time in seconds, 0 or more.

    Examples
    --------
    >>> [duration(seconds) for seconds in (0.003, 0.42, 12, 200, 7500)]
    ['3 ms', '0.4 s', '12 s', '3 min 20 s', '2 h 5 min']
    """
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes and hours < 24 else f"{hours} h"


UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float:
    """Return the seconds of a length of time that people have written.

    Parameters
    ----------
    text
        A number with a unit, such as "90s", "30m", "2h" or "7d"; without a unit it is seconds.

    Raises
    ------
    ValueError
        It is something else.

    Examples
    --------
    >>> [seconds_of(text) for text in ("2h", "90s", "15")]
    [7200.0, 90.0, 15.0]
    """
    unit = UNITS.get(text.strip()[-1:].lower())
    try:
        seconds = float(text.strip()[:-1]) * unit if unit else float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise ValueError(f"{text!r} is no length of time; write it as 90s, 30m, 2h or 7d")
    return seconds


def ordinal(number: int) -> str:
    """Return a number that counts places or times.

    Examples
    --------
    >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 22, 113)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd', '113th']
    """
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def size(nbytes: float) -> str:
    """Return a number of bytes with two or three digits; as in `memory_mb`, 1 MB is 1024 kB.

    Parameters
    ----------
    nbytes
        The size in bytes, 0 or more.

    Examples
    --------
    >>> [size(nbytes) for nbytes in (16, 65_536, 1_300_000, 8 * 2**30)]
    ['16 B', '64 kB', '1.2 MB', '8.0 GB']
    """
    if nbytes < 1024:
        return f"{nbytes:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        nbytes /= 1024
        if nbytes < 999.5 or unit == "TB":
            break
    return f"{nbytes:.1f} {unit}" if nbytes < 9.95 else f"{nbytes:,.0f} {unit}"


def gpu(card: Mapping[str, Any]) -> str:
    """Return the use of a GPU, as a row of `gpus` in the answer about hubs has it.

    Parameters
    ----------
    card
        A row of `cluster.hubs()[0].gpus`.

    Examples
    --------
    >>> gpu({"name": "NVIDIA T4", "percent": 55.0, "used_mb": 4096, "memory_mb": 15360})
    'NVIDIA T4: 55 %, 4.0 GB of 15 GB'
    """
    name = card.get("name") or card.get("id") or "GPU"
    if card.get("lost"):
        return f"{name}: lost ({card['lost']})"
    percent, memory_mb = float(card.get("percent", -1.0)), int(card.get("memory_mb") or 0)
    parts = [f"{percent:.0f} %"] if percent >= 0 else []
    if memory_mb:
        parts.append(f"{size(int(card.get('used_mb') or 0) << 20)} of {size(memory_mb << 20)}")
    if card.get("outside"):
        amount = size(int(card.get("outside_mb") or 0) << 20)
        parts.append(f"{amount} of this card are used outside the queue, by account {', '.join(card['outside'])}")
    return f"{name}: {', '.join(parts)}" if parts else str(name)
