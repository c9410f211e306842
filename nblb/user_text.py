"""Cleaning of users' text for nblb's own messages, journal and logs: unprintable characters escaped, length bounded.

A task's error text, note or name may contain lone surrogates (which no message can carry), NUL, terminal escape codes,
or a gigabyte; and `str` and `repr` of a user's object may raise anything. All such text passes through `clean`,
`clean_name`, `text_of` or `kind_of`, which never raise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

LONGEST_NAME = 200  # characters of the name of a task, job, user, knob or class

# Control characters except tab and newline, lone surrogates, and characters that change the writing direction.
_unfit = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_name_of_class = type.__dict__["__name__"].__get__


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def clean(text: str, most: int) -> str:
    """Return the text with unfit characters escaped; of a text that is too long, the head and the tail.

    Parameters
    ----------
    text
        Any str, or an instance of a user's subclass.
    most
        The number of characters to keep; escapes may add to it.

    Examples
    --------
    >>> clean("caf\\udce9", 100)
    'caf\\\\udce9'
    """
    text = str.__str__(text)
    if len(text) > most:
        left_out = len(text) - most
        text = f"{text[: most // 2]}\n… {left_out:,} characters left out …\n{text[len(text) - most // 2 :]}"
    return _unfit.sub(_escaped, text.replace("\r\n", "\n")) if _unfit.search(text) else text


def clean_name(text: str) -> str:
    """Return a name on one line; equal texts give equal names, so that a lookup by name works."""
    text = str.__str__(text)
    if len(text) > LONGEST_NAME:
        text = f"{text[: LONGEST_NAME // 2]}…{text[-(LONGEST_NAME // 2) :]}"
    return escape_name(text)


def escape_name(text: str) -> str:
    """Return the text on one line, with unfit characters escaped."""
    if text.isprintable():  # nearly always
        return text
    return _unfit.sub(_escaped, text).replace("\n", "\\n").replace("\t", "\\t")


def user_names(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the users that a text such as "anna,bob", or a list, names; none for None.

    Raises
    ------
    ValueError
        It names nobody: an empty list would otherwise mean everybody.
    """
    if given is None:
        return ()
    words = given.split(",") if isinstance(given, str) else given
    names = tuple(dict.fromkeys(name for word in words if (name := clean_name(str(word)).strip())))
    if not names:
        raise ValueError(f"{clean_name(str(given))!r} names no user; give one name or more, such as 'anna,bob'")
    return names


def text_of(thing: object, most: int, make: Callable[[Any], str] = str) -> str:
    """Return the clean result of `make` (str or repr) for a user's object, or a text that names the error it raises."""
    try:
        return clean(make(thing), most)
    except BaseException as error:  # a user's __str__ may raise SystemExit or KeyboardInterrupt, too
        return f"<{kind_of(thing)}: it cannot be shown, its {make.__name__} raises {kind_of(error)}>"


def kind_of(thing: object) -> str:
    """Return the name of an object's class."""
    name: str = _name_of_class(type(thing))
    return clean_name(name)
