"""Links between the Monitor's pages: relative addresses, so that they work behind any proxy and prefix."""

from __future__ import annotations

import html
from urllib.parse import urlencode


def address(**query: object) -> str:
    """Return the address of a place of the Monitor, relative to any other place of it."""
    return "?" + urlencode({key: value for key, value in query.items() if value not in ("", None)})


def link(text: str, **query: object) -> str:
    """Return a link to a place of the Monitor, as HTML."""
    return f'<a href="{html.escape(address(**query))}">{html.escape(text)}</a>'
