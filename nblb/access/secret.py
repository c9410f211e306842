"""A secret key in memory, which no repr, traceback, pickle or log shows."""

from __future__ import annotations

from typing import NoReturn

MASK = "(secret)"


class Secret:
    """A text that only `reveal` gives out.

    Examples
    --------
    >>> Secret("k7#x")
    (secret)
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; call it inline where it is used, so that no variable of a frame holds it."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a dict

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not pickled")
