"""The names by which a worker and a core agree on classes of exceptions."""

from __future__ import annotations

import json
import urllib.error

import pytest

from nblb.errors import TaskTimeout
from nblb.protocol.exception_names import full_name, is_among, name_of


class LocalError(LookupError):
    """An error of a user's module."""


class Meta(type):
    """Lies about names and bases, as a user's class may."""

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError


def test_names() -> None:
    assert name_of(OSError) == full_name("OSError") == full_name(IOError) == "builtins.OSError"
    assert full_name(LocalError) == f"{__name__}.LocalError"
    assert full_name("json.decoder.JSONDecodeError") == full_name(json.JSONDecodeError)


@pytest.mark.parametrize("wrong", [3, None, int, "", "a b", "OSError()", "x.", ValueError()])
def test_what_names_no_class(wrong: object) -> None:
    assert full_name(wrong) == ""


def test_subclasses_count() -> None:
    assert is_among(urllib.error.HTTPError, ("builtins.OSError",))
    assert is_among(TaskTimeout, ("builtins.TimeoutError",))
    assert is_among(LocalError, ("builtins.KeyError", "builtins.LookupError"))
    assert not is_among(OSError, ("builtins.ConnectionError",))
    assert not is_among(OSError, ())


def test_a_class_whose_metaclass_raises_has_a_name() -> None:
    kind = Meta("Strange", (Exception,), {})
    assert is_among(kind, ("builtins.Exception",))
