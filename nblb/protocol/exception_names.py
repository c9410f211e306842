"""Names of exception classes, by which a core that never unpickles knows which failures may be retried.

A class is named by its module and qualified name, `builtins.OSError`. A worker compares the names of an exception's
class and of all bases of that class, so `OSError` includes `ConnectionError`.
"""

from __future__ import annotations

from collections.abc import Iterable

from nblb.user_text import clean_name


def name_of(kind: type) -> str:
    """Return the full name of a class.

    Examples
    --------
    >>> name_of(OSError)
    'builtins.OSError'
    """
    return clean_name(f"{type.__dict__['__module__'].__get__(kind)}.{type.__dict__['__qualname__'].__get__(kind)}")


def is_among(kind: type, names: Iterable[str]) -> bool:
    """Return whether one of these names is that of the class or of one of its bases.

    Examples
    --------
    >>> is_among(ConnectionError, ("builtins.OSError",))
    True
    """
    wanted = frozenset(names)
    return any(name_of(base) in wanted for base in type.__dict__["__mro__"].__get__(kind))


def full_name(given: object) -> str:
    """Return the full name of an exception class that is given as a class or as a text; "" if it is neither.

    A text without a dot names a built-in exception.

    Examples
    --------
    >>> full_name(OSError), full_name("OSError"), full_name("urllib.error.URLError"), full_name("no name")
    ('builtins.OSError', 'builtins.OSError', 'urllib.error.URLError', '')
    """
    if isinstance(given, type) and issubclass(given, BaseException):
        return name_of(given)
    if not isinstance(given, str) or not all(part.isidentifier() or part == "<locals>" for part in given.split(".")):
        return ""
    return clean_name(given if "." in given else f"builtins.{given}")
