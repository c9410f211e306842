"""Cleaning of the names in messages of any program; nblb's own clients clean what their users give them themselves.

The core's log, errors, cards and tables contain these names, and other users see them.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from nblb.user_text import LONGEST_NAME, escape_name

M = TypeVar("M", bound=msgspec.Struct)

LONGEST = 6 * LONGEST_NAME + 1  # a name that a client has cleaned: each character may have become an escape


def with_clean_names(message: M, *fields: str) -> M:
    """Return the message with these texts on one line, without control characters, and bounded."""
    found: dict[str, str] = {}
    for field in fields:
        text: str = getattr(message, field)
        if not text.isprintable() or len(text) > LONGEST:
            found[field] = escape_name(text[:LONGEST])
    return msgspec.structs.replace(message, **found) if found else message
