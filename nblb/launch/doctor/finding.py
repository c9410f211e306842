"""One result of a check."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Level: TypeAlias = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """A line of `nblb doctor`: how it is, what it is about, and a sentence with what to do."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<5} {self.subject:<12} {self.text}"
