"""The building blocks of the planted faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

Patches = list[Any]


def swap(owner: Any, name: str, make: Callable[[Any], Any]) -> Any:
    """A patch of `owner.name` by what `make` builds around the original."""
    return patch.object(owner, name, make(getattr(owner, name)))


def nothing(*_args: Any, **_keywords: Any) -> None:
    """Instead of something that ought to be done."""
